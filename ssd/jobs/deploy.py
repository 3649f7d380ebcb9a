"""job=deploy: a trained model in forms that run elsewhere, each compared with it before it gets its name."""

import json
import logging
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf

from ssd.data.dataset import Dataset, Sample
from ssd.data.images import decode, preprocess
from ssd.detection.detector import Detector
from ssd.detection.sources import iterate
from ssd.errors import DifferentModelError, UserError
from ssd.evaluation.measure import measure
from ssd.files import write_atomically
from ssd.interop.agreement import LIMIT, Agreement, Answers, agreement
from ssd.interop.formats import FORMATS, Calibration, Format, onnx_export
from ssd.interop.models import MXNET_KINDS, open_model
from ssd.interop.onnx.file import OnnxModel
from ssd.jobs.common import asked_model, open_gate
from ssd.model import Model
from ssd.training.trainer import contexts

log = logging.getLogger(__name__)

MAPS = ("map_11pt", "map_area")
CALIBRATION_BATCH = 4


@dataclass
class Exported:
    """What became of a format. faults: why it failed."""

    path: str
    megabytes: float
    agreement: Agreement
    maps: dict[str, float]
    faults: list[str]


def run(cfg: DictConfig, folder: Path) -> None:
    """Writes cfg.deploy.format of cfg.model into the run directory, and deploy.json with what was measured.

    Errors: UserError for what cannot be exported; DifferentModelError when an export answers something else. The others
    are written then.
    """
    if cfg.model is None:
        raise UserError(f"job=deploy needs model=: {MXNET_KINDS}")
    formats = chosen(cfg.deploy.format)
    model = asked_model(cfg)
    if isinstance(model, OnnxModel):
        raise UserError(f"model {cfg.model}: an ONNX file is exported already; name the checkpoint it came from")
    material = gather(cfg, folder, model, any(format_.quantized for format_ in formats.values()))
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    trained = Detector(model, contexts(cfg.device)[0], cfg.batch_size, cfg.model)
    maps = mean_precision(cfg, trained, material.samples)
    done: dict[str, Exported] = {}
    for name, format_ in formats.items():
        log.info("exporting %s", name)
        done[name] = export(cfg, folder, Job(model, format_, material, maps))
    report = {"model": str(cfg.model), "maps": maps, "formats": {name: asdict(part) for name, part in done.items()}}
    write_atomically(folder / "deploy.json", (json.dumps(report, indent=1) + "\n").encode())
    for line in table(maps, done):
        log.info("%s", line)
    if faults := [f"{name}: {fault}" for name, part in done.items() for fault in part.faults]:
        raise DifferentModelError("FAILED: " + "; ".join(faults))


def chosen(value: Any) -> dict[str, Format]:
    """The formats of deploy.format, a name or a list of names. Errors: UserError for an unknown one, or one that needs
    what is not installed."""
    names = list(value) if isinstance(value, (list, ListConfig)) else [value]
    if not names:
        raise UserError(f"deploy.format=[]: choose from {', '.join(FORMATS)}")
    for name in names:
        if name not in FORMATS:
            raise UserError(f"deploy.format={name}: no such format, choose from {', '.join(FORMATS)}")
    if any("onnx" in name for name in names):
        onnx_export()  # says what is missing before anything is written
    return {name: FORMATS[name] for name in names}


@dataclass(frozen=True)
class Material:
    """images: that answers are compared on. samples: that mAP is measured on, none without a data set."""

    images: list[np.ndarray]
    samples: Sequence[Sample]
    calibration: Calibration


def gather(cfg: DictConfig, folder: Path, model: Model, quantized: bool) -> Material:
    """Errors: UserError when pictures are missing, or the data set does not fit the model."""
    deploy = cfg.deploy
    measured: list[Sample] = []
    calibrating: list[Sample] = []
    if deploy.measure or quantized or cfg.source is None:
        gate = open_gate(cfg)
        if list(gate.classes) != model.spec.classes:
            raise UserError(
                f"model {cfg.model} knows {', '.join(model.spec.classes)}, dataset {cfg.dataset.name} has "
                f"{', '.join(gate.classes)}; choose the data set that fits the model, or source= a folder "
                "of pictures and deploy.measure=false"
            )
        splits = [_available(gate.dataset, deploy.split)]
        if quantized:
            splits.append(_available(gate.dataset, deploy.calibration.split))
        samples = gate.admit(list(dict.fromkeys(splits)), folder).samples
        measured = samples[splits[0]]
        calibrating = _spread(samples[splits[-1]], deploy.calibration.images) if quantized else []
    if cfg.source is not None:
        images = [image for _, image in islice(iterate(cfg.source), deploy.images)]
    else:
        images = [decode(sample.read(), str(sample.path)) for sample in _spread(measured, deploy.images)]

    def pictures() -> Iterable[np.ndarray]:
        for start in range(0, len(calibrating), CALIBRATION_BATCH):
            batch = calibrating[start : start + CALIBRATION_BATCH]
            yield preprocess([decode(sample.read(), str(sample.path)) for sample in batch], model.spec.input)

    return Material(images, measured if deploy.measure else [], Calibration(pictures, deploy.calibration.method))


def _available(dataset: Dataset, split: str) -> str:
    return "val" if split == "test" and "test" not in dataset.available else split


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most `count`, evenly over the list."""
    places = np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int))
    return [samples[place] for place in places]


@dataclass(frozen=True)
class Job:
    """One export: of what, as what, compared on what. maps: of the trained model."""

    model: Model
    format: Format
    material: Material
    maps: dict[str, float]


def export(cfg: DictConfig, folder: Path, job: Job) -> Exported:
    """Writes under a name of its own, compares, and only then gives it the name that says it is right."""
    unchecked = folder / "unchecked"
    path, target = unchecked / job.format.name, folder / job.format.name
    unchecked.mkdir(parents=True, exist_ok=True)
    try:
        job.format.write(job.model, path, job.material.calibration)
        device = contexts(cfg.device)[0]
        agreed = agreement(Answers.of_model(job.model, device), Answers.of_file(path, device), job.material.images)
        finished = Detector(open_model(path, finished=True), device, cfg.batch_size, str(path))
        maps = mean_precision(cfg, finished, job.material.samples)
        faults = find_faults(job, agreed, maps)
        size = sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
        if not faults:
            path.rename(target)
    finally:
        shutil.rmtree(unchecked)
    return Exported(str(target), round(size / 1e6, 2), agreed, maps, faults)


def find_faults(job: Job, agreed: Agreement, maps: dict[str, float]) -> list[str]:
    faults = []
    if not job.format.quantized:
        if agreed.before > LIMIT:
            faults.append(f"differs by {agreed.before:.2g} before suppression, more than {LIMIT:.0e}")
        if agreed.differing:
            faults.append(f"{agreed.differing} of {agreed.boxes} boxes differ")
    for name, value in maps.items():
        if not np.isclose(value, job.maps[name], rtol=0, atol=job.format.limit, equal_nan=True):
            faults.append(f"{name} is {value:.4f} instead of {job.maps[name]:.4f}, more than {job.format.limit} off")
    return faults


def mean_precision(cfg: DictConfig, detector: Detector, samples: Sequence[Sample]) -> dict[str, float]:
    """mAP on the samples, both ways; empty without samples."""
    if not samples:
        return {}
    voc = measure(detector, samples, cfg.metric).voc
    return {name: float(voc[name]) for name in MAPS}


def table(maps: dict[str, float], done: dict[str, Exported]) -> list[str]:
    """The formats side by side, as lines of text."""
    head = f"{'format':10} {'MB':>7} {'difference':>11} {'boxes':>6} {'differ':>6} {'sure':>9}"
    lines = [head + "".join(f"  {name:>8}" for name in maps) + "  file"]
    if maps:
        lines.append(f"{'trained':54}" + "".join(f"  {value:8.4f}" for value in maps.values()))
    for name, part in done.items():
        agreed = part.agreement
        differing = "" if FORMATS[name].quantized else agreed.differing
        numbers = f"{part.megabytes:7.2f} {agreed.before:11.2g} {agreed.boxes:6d} {differing:>6}"
        sure = f"{agreed.found}/{agreed.confident}"
        values = "".join(f"  {value:8.4f}" for value in part.maps.values())
        lines.append(f"{name:10} {numbers} {sure:>9}{values}  {'FAILED' if part.faults else part.path}")
    return lines
