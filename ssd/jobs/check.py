"""job=check: the dataset examined before a training is spent on it; the exit code says whether it is safe."""

import logging
import shutil
import time
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ssd.config.parts import loader_config, network_config, trainer_config
from ssd.data.base import Sample
from ssd.data.datasets.build import make_dataset
from ssd.data.inspection.gate import Gate
from ssd.diagnostics.batches import augmented_batches
from ssd.diagnostics.boxes import Input
from ssd.diagnostics.examine import Examination, examine
from ssd.diagnostics.overfit import SelfTest, overfit
from ssd.diagnostics.page import check_page
from ssd.diagnostics.report import make_report
from ssd.diagnostics.sheet import draw_batch, draw_sample, grid
from ssd.diagnostics.table import tables
from ssd.jobs.common import open_gate, seed_everything
from ssd.jobs.runtime import overfitting, with_classes
from ssd.utils.atomic_files import write_atomically, write_json
from ssd.utils.errors import UnsafeDataError, UserError
from ssd.utils.sequences import spread

log = logging.getLogger(__name__)

COLUMNS = 4  # of the contact sheet
TILE = 314  # width of one of its images
BATCHES = 2  # passes over the images shown augmented


def run(cfg: DictConfig, folder: Path) -> None:
    """Writes check.json and check.html, or does the self-test of cfg.check.overfit.

    Errors: UnsafeDataError for findings that are errors, or a network that cannot learn; UserError when nothing can be
    read.
    """
    if cfg.check.overfit is not None:
        return self_test(cfg, folder)
    target = Input(cfg.data_shape.width, cfg.data_shape.height, cfg.job.small, cfg.resize_mode == "fit")
    found = examine(
        Gate(lambda: make_dataset(cfg.dataset), cfg.dataset.on_error), cfg.job.splits, target, cfg.job.findings
    )
    cfg = with_classes(cfg, found.classes)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    names = (group.get("name", "") for group in (cfg.dataset, cfg.augment))
    report = make_report(network_config(cfg), found, *names)
    write_json(folder / "check.json", report)
    write_atomically(folder / "check.html", check_page(report, images(cfg, found, folder)))
    for line in tables(report, shutil.get_terminal_size((120, 40)).columns):
        log.info("%s", line.rstrip())
    log.info("%-12s %s", "report", folder / "check.html")
    log.info("%-12s %s", "numbers", folder / "check.json")
    if not report["safe"]:
        raise UnsafeDataError(f"not safe to train: {report['summary']}; see {folder / 'check.html'}")
    log.info("safe to train: %s", report["summary"])


def self_test(cfg: DictConfig, folder: Path) -> None:
    """Errors: UnsafeDataError when the network cannot overfit the images."""
    seed_everything(cfg.seed)
    gate = open_gate(cfg)
    cfg = with_classes(cfg, gate.classes)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    train = gate.admit(["train"], folder).samples["train"]
    with_objects = [sample for sample in train if len(sample.boxes) and not sample.boxes[:, 5].all()]
    samples = spread(with_objects, cfg.check.overfit)
    if not samples:
        raise UserError(f"check.overfit={cfg.check.overfit}: there is no training image with an object")
    log.info("overfit test on %d images: %s", len(samples), ", ".join(sample.path.name for sample in samples))
    started = time.perf_counter()
    alone = overfitting(cfg, len(samples))
    test = SelfTest(
        loader_config(alone), network_config(alone), trainer_config(alone), cfg.check.measure_every, cfg.metric
    )
    learned = overfit(test, samples, gate.classes, folder)
    seconds = time.perf_counter() - started
    numbers = {"map_area": learned.mean, "steps": learned.steps, "seconds": round(seconds, 1), **learned.by_class}
    write_json(folder / "check.json", numbers)
    network = f"{cfg.backbone.name} at {cfg.data_shape.height}x{cfg.data_shape.width}"
    if not learned.everything:
        classes = ", ".join(f"{name} {ap:.2f}" for name, ap in sorted(learned.by_class.items()) if ap < 1)
        raise UnsafeDataError(
            f"{network} cannot overfit {len(samples)} images: mAP {learned.mean:.4f} at best, after step "
            f"{learned.steps} of {cfg.check.steps} ({classes or 'no object found'}); boxes and anchors are examined by "
            "job=check alone, more check.steps or another check.learning_rate may do"
        )
    log.info("%s overfits %d images: mAP 1.0 after %d steps, %.0f s", network, len(samples),
             learned.steps, seconds)  # fmt: skip


def images(cfg: DictConfig, found: Examination, folder: Path) -> dict[str, np.ndarray]:
    """What the report shows, by title: annotated samples of each split, and augmented batches of train."""
    shown = {}
    for split, samples in found.samples.items():
        chosen = spread(samples, cfg.job.samples)
        if chosen:
            title = f"{split}: {len(chosen)} of {found.counts[split]['images']} images as annotated"
            shown[title] = contact(chosen, found.classes)
        if chosen and split == "train":
            batches = augmented_batches(loader_config(cfg), chosen, BATCHES, folder)
            title = f"train: the same images as the network gets them, augment={cfg.augment.name}"
            for number, (pixels, label) in enumerate(batches, start=1):
                shown[f"{title}, pass {number}"] = draw_batch(pixels, label, found.classes)
    return shown


def contact(samples: list[Sample], classes: tuple[str, ...]) -> np.ndarray:
    return grid([draw_sample(sample, classes, TILE) for sample in samples], COLUMNS)
