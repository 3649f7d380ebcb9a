"""job=check: the data set examined before a training is spent on it; the exit code says whether it is safe."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ssd.data.dataset import Sample, make_dataset
from ssd.data.problems import ERROR
from ssd.doctor.batches import augmented_batches
from ssd.doctor.boxes import Input
from ssd.doctor.examine import Examination, examine
from ssd.doctor.page import page
from ssd.doctor.report import make_report
from ssd.doctor.sheet import draw_batch, draw_sample, grid, spread
from ssd.doctor.table import tables
from ssd.errors import UnsafeDataError
from ssd.files import write_atomically

log = logging.getLogger(__name__)

COLUMNS = 4  # of the contact sheet
TILE = 314  # width of one of its pictures
BATCHES = 2  # passes over the pictures shown augmented


def run(cfg: DictConfig, folder: Path) -> None:
    """Writes check.json and check.html. Errors: UnsafeDataError for findings that are errors; UserError when nothing
    can be read."""
    target = Input(cfg.data_shape.width, cfg.data_shape.height, cfg.job.small, cfg.resize_mode == "fit")
    found = examine(make_dataset(cfg.dataset), cfg.job.splits, target, cfg.job.findings)
    cfg.dataset.classes = list(found.classes)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    report = make_report(cfg, found)
    write_atomically(folder / "check.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    write_atomically(folder / "check.html", page(report, pictures(cfg, found, folder)).encode())
    for line in tables(report, shutil.get_terminal_size((120, 40)).columns):
        log.info("%s", line.rstrip())
    log.info("%-12s %s", "report", folder / "check.html")
    log.info("%-12s %s", "numbers", folder / "check.json")
    if not report["safe"]:
        raise UnsafeDataError(f"not safe to train: {report['summary']}; see {folder / 'check.html'}")
    log.info("safe to train: %s", report["summary"])


def pictures(cfg: DictConfig, found: Examination, folder: Path) -> dict[str, np.ndarray]:
    """What the report shows, by title: annotated samples of each split, and augmented batches of train."""
    unreadable = {finding.file for finding in found.findings if finding.severity == ERROR}
    shown = {}
    for split, samples in found.samples.items():
        chosen = spread([sample for sample in samples if str(sample.path) not in unreadable], cfg.job.samples)
        if chosen:
            shown[f"{split}: {len(chosen)} of {len(samples)} pictures as annotated"] = contact(chosen, found.classes)
        if chosen and split == "train":
            batches = augmented_batches(cfg, chosen, BATCHES, folder)
            title = f"train: the same pictures as the network gets them, augment={cfg.augment.name}"
            for number, (pixels, label) in enumerate(batches, start=1):
                shown[f"{title}, pass {number}"] = draw_batch(pixels, label, found.classes)
    return shown


def contact(samples: list[Sample], classes: tuple[str, ...]) -> np.ndarray:
    return grid([draw_sample(sample, classes, TILE) for sample in samples], COLUMNS)
