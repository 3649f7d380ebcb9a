"""What every job starts and ends with."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssd.data.dataset import Dataset, Sample, make_dataset
from ssd.data.records import Records, ensure_records
from ssd.tracking.events import Events, RunInfo, make_writers
from ssd.tracking.files import RunFiles

log = logging.getLogger(__name__)


def open_dataset(cfg: DictConfig) -> Dataset:
    """The configured data set; its class names go into cfg.dataset.classes. Errors: UserError of the data set."""
    dataset = make_dataset(cfg.dataset)
    cfg.dataset.classes = list(dataset.classes)
    return dataset


def packed(cfg: DictConfig, dataset: Dataset, split: str, samples: Sequence[Sample]) -> Records:
    """The records of a split: those that the data set consists of if they can be used, else packed on first use."""
    folder = Path(cfg.training.records) / cfg.dataset.name
    as_they_are = dataset.records(split, folder) if cfg.training.max_side is None else None
    # Packed in one order for all seeds, so that a sweep over them shares the files; the loader shuffles by cfg.seed.
    return as_they_are or ensure_records(samples, folder, split, seed=0, max_side=cfg.training.max_side)


def start_events(cfg: DictConfig, folder: Path, steps: int) -> Events:
    """Saves the resolved configuration in the run directory and starts its writers. steps: per epoch, 0 for none."""
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    events = Events({"files": RunFiles(), **make_writers(cfg.logger)})
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    epochs = cfg.epochs if steps else 0
    events.start(
        RunInfo("/".join(folder.parts[-2:]), cfg.job.name, plain, folder, plain["dataset"]["classes"], epochs, steps)
    )
    return events


def tell_results(folder: Path, places: dict[str, str], lines: Sequence[str]) -> None:
    """The last lines of a run: what came out, and where it lies."""
    for line in lines:
        log.info("%s", line)
    for name, place in places.items():
        log.info("%-12s %s", name, place)
    log.info("%-12s %s", "pictures", folder / "pictures")


def ap_table(values: dict[str, float], classes: Sequence[str]) -> list[str]:
    """Per-class AP and the means as lines of text."""
    width = max(len(name) for name in [*classes, "mean"])
    lines = [f"{'':{width}}  AP 11-point  AP area"]
    for name in classes:
        lines.append(f"{name:{width}}  {values[f'val/ap_11pt/{name}']:11.4f}  {values[f'val/ap_area/{name}']:7.4f}")
    lines.append(f"{'mean':{width}}  {values['val/map_11pt']:11.4f}  {values['val/map_area']:7.4f}")
    return lines
