"""job=prepare: the images of all splits into records, which training then finds."""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ssd.data.base import SPLITS, Dataset, Sample
from ssd.data.inspection.gate import Admitted
from ssd.jobs.common import open_gate
from ssd.jobs.runtime import with_classes
from ssd.jobs.training_data import make_records
from ssd.utils.atomic_files import write_json
from ssd.utils.errors import UserError
from ssd.utils.text_table import text_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packed:
    """What became of a split."""

    images: int
    without_objects: int
    objects: int
    difficult: int
    crowds: int
    megabytes: float
    seconds: float
    file: str


def run(cfg: DictConfig, folder: Path) -> None:
    """Packs cfg.job.splits; writes prepare.json into the run directory. UserError for a bad image or annotation."""
    gate = open_gate(cfg)
    cfg = with_classes(cfg, gate.classes)
    dataset = gate.dataset
    splits = list(cfg.job.splits or dataset.available)
    if unknown := [name for name in splits if name not in SPLITS]:
        raise UserError(f"job.splits: {unknown[0]!r} is no split, choose from {', '.join(SPLITS)}")
    done: dict[str, Packed] = {}
    packed_paths: dict[tuple[Path, ...], str] = {}
    admitted = gate.admit(splits, folder, may_be_empty=["val", "test"])
    for name, samples in admitted.samples.items():
        same = packed_paths.setdefault(tuple(sample.path for sample in samples), name)
        if same == name:
            done[name] = pack(cfg, dataset, name, admitted)
        else:
            log.info("%s has the images of %s, which are packed", name, same)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    report = {"classes": list(gate.classes), "splits": {name: asdict(split) for name, split in done.items()}}
    write_json(folder / "prepare.json", report)
    header = ["split", "images", "without objects", "objects", "difficult", "crowds", "MB", "seconds"]
    files = ["", *(split.file for split in done.values())]
    rows = [[name, *list(asdict(split).values())[:-1]] for name, split in done.items()]
    for line, file in zip(text_table(header, rows), files, strict=True):
        log.info("%s", f"{line}  {file}".rstrip())


def pack(cfg: DictConfig, dataset: Dataset, split: str, admitted: Admitted) -> Packed:
    started = time.monotonic()
    records = make_records(cfg, dataset, split, admitted)
    return Packed(
        **count(admitted.samples[split]),
        megabytes=round(records.rec.stat().st_size / 1e6, 1),
        seconds=round(time.monotonic() - started, 2),
        file=str(records.rec),
    )


def count(samples: list[Sample]) -> dict[str, int]:
    return {
        "images": len(samples),
        "without_objects": sum(not len(sample.boxes) for sample in samples),
        "objects": sum(len(sample.boxes) for sample in samples),
        "difficult": sum(int((sample.boxes[:, 5] > 0).sum()) for sample in samples),
        "crowds": sum(len(sample.crowds) for sample in samples),
    }
