"""job=deploy: a trained model in forms that run elsewhere, each compared with it before it gets its name."""

import logging
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf

from ssd.checkpoint.model import Model
from ssd.data.base import Dataset, Sample
from ssd.data.images import decode
from ssd.data.transforms.preprocess import preprocess
from ssd.detection.description import FIXED, IMAGE
from ssd.detection.detector import Detector
from ssd.detection.onnx_file import OnnxModel
from ssd.detection.open_model import MXNET_KINDS, open_model
from ssd.detection.sources import iterate
from ssd.evaluation.measure import EvalResult, by_rules, difference_intervals, evaluate
from ssd.export.agreement import LIMIT, Agreement, ModelUnderTest, agreement, compare_whole, resized
from ssd.export.formats import FORMATS, Calibration, Format, onnx_export
from ssd.jobs.common import open_gate, requested_model
from ssd.jobs.runtime import with_classes, with_decoding
from ssd.mxnet_compat import contexts
from ssd.utils.atomic_files import write_json
from ssd.utils.errors import DifferentModelError, UserError
from ssd.utils.sequences import spread
from ssd.utils.text_table import text_table

log = logging.getLogger(__name__)

MAPS = ("map_11pt", "map_area")
INPUTS = (IMAGE, FIXED)
MAP_LIMIT = 0.001  # how far the mAP of an export in 32 bits may lie from the trained model's
CALIBRATION_BATCH = 4
WAYS_OUT = (
    "; calibrate otherwise (deploy.calibration.images=, deploy.calibration.method=), measure on more images "
    "(deploy.split=), or allow it (deploy.max_map_loss=)"
)
UNDECIDED = ": within what these images can decide"


@dataclass
class Exported:
    """What became of a format. faults: why it failed; notes: what is worth knowing where it did not."""

    path: str
    megabytes: float
    agreement: Agreement
    maps: dict[str, float]
    faults: list[str]
    notes: list[str]


def run(cfg: DictConfig, folder: Path) -> None:
    """Writes cfg.deploy.format of cfg.model into the run directory, and deploy.json with what was measured.

    Errors: UserError for what cannot be exported; DifferentModelError when an export answers something else. The others
    are written then.
    """
    if cfg.model is None:
        raise UserError(f"job=deploy needs model=: {MXNET_KINDS}")
    formats = chosen(cfg.deploy)
    model = requested_model(cfg)
    if isinstance(model, OnnxModel):
        raise UserError(f"model {cfg.model}: an ONNX file is exported already; name the checkpoint it came from")
    device = contexts(cfg.device)[0]  # one that is not there is reported before any work
    material = gather(cfg, folder, model, any(format_.quantized for format_ in formats.values()))
    cfg = with_decoding(cfg, model.spec.detection)
    if material.classes is not None:
        cfg = with_classes(cfg, material.classes)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    trained = Detector(model, device, cfg.batch_size, cfg.model)
    if material.samples:
        log.info(
            "measuring %s and its exports on the %d images of %s", cfg.model, len(material.samples), material.split
        )
    measured = measure_on(cfg, trained, material.samples)
    maps = mean_precision(measured)
    done: dict[str, Exported] = {}
    for name, format_ in formats.items():
        log.info("exporting %s", name)
        done[name] = export(cfg, folder, Job(model, format_, material, measured))
    exports = {name: asdict(part) for name, part in done.items()}
    report = {"model": str(cfg.model), "split": material.split if maps else None, "maps": maps, "formats": exports}
    write_json(folder / "deploy.json", report)
    for line in table(maps, done):
        log.info("%s", line)
    for name, note in [(name, note) for name, part in done.items() for note in part.notes]:
        log.info("%s: %s", name, note)
    if faults := [f"{name}: {fault}" for name, part in done.items() for fault in part.faults]:
        raise DifferentModelError("FAILED: " + "; ".join(faults))


def chosen(deploy: DictConfig) -> dict[str, Format]:
    """The formats of deploy.format, a name or a list of names, with the input of deploy.input. Errors: UserError for an
    unknown one, or one that needs what is not installed, and for other keys of deploy that make no sense."""
    value = deploy.format
    if deploy.input not in INPUTS:
        raise UserError(f"deploy.input={deploy.input}: expected {' or '.join(INPUTS)}")
    if not deploy.max_map_loss >= 0:
        raise UserError(f"deploy.max_map_loss={deploy.max_map_loss}: expected a difference of mAP, 0 or more")
    names = list(value) if isinstance(value, (list, ListConfig)) else [value]
    if not names:
        raise UserError(f"deploy.format=[]: expected {', '.join(FORMATS)}")
    for name in names:
        if name not in FORMATS:
            raise UserError(f"deploy.format={name}: expected {', '.join(FORMATS)}")
    if any("onnx" in name for name in names):
        onnx_export()  # says what is missing before anything is written
    return {name: with_input(FORMATS[name], deploy.input) for name in names}


def with_input(format_: Format, kind: str) -> Format:
    """kind: one of INPUTS, for formats that leave a choice."""
    return replace(format_, write=format_.fixed) if format_.fixed and kind == FIXED else format_


@dataclass(frozen=True)
class Material:
    """images: that outputs are compared on. samples: that mAP is measured on, none without a dataset; of this split.
    classes: of the dataset, if there is one."""

    images: list[np.ndarray]
    samples: Sequence[Sample]
    split: str
    calibration: Calibration
    classes: Sequence[str] | None = None


def gather(cfg: DictConfig, folder: Path, model: Model, quantized: bool) -> Material:
    """Errors: UserError when images are missing, or the dataset does not fit the model."""
    deploy = cfg.deploy
    measured: list[Sample] = []
    calibrating: list[Sample] = []
    classes: Sequence[str] | None = None
    split = deploy.split
    if deploy.measure or quantized or cfg.source is None:
        gate = open_gate(cfg)
        if list(gate.classes) != model.spec.classes:
            raise UserError(
                f"model {cfg.model} knows {', '.join(model.spec.classes)}, dataset {cfg.dataset.name} has "
                f"{', '.join(gate.classes)}; choose the dataset that fits the model, or source= a folder "
                "of images and deploy.measure=false"
            )
        classes = gate.classes
        split = _available(gate.dataset, deploy.split)
        splits = [split]
        if quantized:
            splits.append(_available(gate.dataset, deploy.calibration.split))
        samples = gate.admit(list(dict.fromkeys(splits)), folder).samples
        measured = samples[split]
        calibrating = spread(samples[splits[-1]], deploy.calibration.images) if quantized else []
    if cfg.source is not None:
        images = [image for _, image in islice(iterate(cfg.source), deploy.images)]
    else:
        images = [decode(sample.read(), str(sample.path)) for sample in spread(measured, deploy.images)]

    def calibration_images() -> Iterable[np.ndarray]:
        for start in range(0, len(calibrating), CALIBRATION_BATCH):
            batch = calibrating[start : start + CALIBRATION_BATCH]
            yield preprocess([decode(sample.read(), str(sample.path)) for sample in batch], model.spec.input)

    images += resized(images, model.spec.input)
    calibration = Calibration(calibration_images, deploy.calibration.method)
    return Material(images, measured if deploy.measure else [], split, calibration, classes)


def _available(dataset: Dataset, split: str) -> str:
    return "val" if split == "test" and "test" not in dataset.available else split


@dataclass(frozen=True)
class Job:
    """One export: of what, as what, compared on what. measured: the trained model, None without samples."""

    model: Model
    format: Format
    material: Material
    measured: EvalResult | None


def export(cfg: DictConfig, folder: Path, job: Job) -> Exported:
    """Writes under a name of its own, compares, and only then gives it the name that says it is right."""
    unchecked = folder / "unchecked"
    path, target = unchecked / job.format.name, folder / job.format.name
    shutil.rmtree(unchecked, ignore_errors=True)  # of one that was killed
    unchecked.mkdir(parents=True)
    try:
        job.format.write(job.model, path, job.material.calibration)
        device = contexts(cfg.device)[0]
        agreed = agreement(
            ModelUnderTest.of_model(job.model, device), ModelUnderTest.of_file(path, device), job.material.images
        )
        finished = Detector(open_model(path, finished=True), device, cfg.batch_size, str(path))
        measured = measure_on(cfg, finished, job.material.samples)
        faults = find_faults(job, agreed)
        if fault := compare_whole(path, finished, job.material.images):
            faults.append(fault)
        losses = find_losses(cfg, job, measured)
        faults += [text for text, fails in losses if fails]
        notes = [text for text, fails in losses if not fails]
        size = sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
        if not faults:
            if target.is_dir():  # of an earlier job in this folder; of two folders, none takes the other's name
                target.rename(unchecked / "before")
            path.rename(target)
    finally:
        shutil.rmtree(unchecked)
    return Exported(str(target), round(size / 1e6, 2), agreed, mean_precision(measured), faults, notes)


def find_faults(job: Job, agreed: Agreement) -> list[str]:
    faults = []
    if not job.format.quantized:
        if agreed.before > LIMIT:
            faults.append(f"differs by {agreed.before:.2g} before suppression, more than {LIMIT:.0e}")
        if agreed.differing:
            faults.append(f"{agreed.differing} of {agreed.boxes} boxes differ")
    return faults


def find_losses(cfg: DictConfig, job: Job, measured: EvalResult | None) -> list[tuple[str, bool]]:
    """Where the export's mAP is further from the trained model's than the limit, in a sentence; and whether it fails by
    that, because resampled images say that it is no accident of these."""
    trained = job.measured
    if trained is None or measured is None:
        return []
    maps, expected = mean_precision(measured), mean_precision(trained)
    limit = cfg.deploy.max_map_loss if job.format.quantized else MAP_LIMIT
    lost = {name: _loss(expected[name], value) for name, value in maps.items()}
    # 8 bits may gain what they like; an export in 32 bits shall do neither.
    large = [name for name, loss in lost.items() if (loss if job.format.quantized else abs(loss)) > limit]
    if not large:
        return []
    pair = trained.joined, measured.joined
    intervals = difference_intervals(pair, lambda joined: by_rules(joined, cfg.metric), large)
    losses = []
    for name in large:
        low, high = intervals[name]
        fails = not low <= 0 <= high
        text = (
            f"{name} is {maps[name]:.4f} instead of {expected[name]:.4f}, more than {limit} off "
            f"(95% interval of the loss, from {len(trained.samples)} images: {low:.4f} to {high:.4f})"
        )
        ways_out = WAYS_OUT if job.format.quantized else ""
        losses.append((text + (ways_out if fails else UNDECIDED), fails))
    return losses


def _loss(expected: float, value: float) -> float:
    """nan, of a split without objects, is a number like others here."""
    if np.isnan(expected) or np.isnan(value):
        return 0.0 if np.isnan(expected) and np.isnan(value) else np.inf
    return expected - value


def measure_on(cfg: DictConfig, detector: Detector, samples: Sequence[Sample]) -> EvalResult | None:
    return evaluate(detector, samples, cfg.metric) if samples else None


def mean_precision(measured: EvalResult | None) -> dict[str, float]:
    """mAP both ways; empty without a measurement."""
    return {name: float(measured.voc[name]) for name in MAPS} if measured else {}


def table(maps: dict[str, float], done: dict[str, Exported]) -> list[str]:
    """The formats side by side, as lines of text."""
    rows: list[list[object]] = [["trained", *[""] * 5, *(f"{value:.4f}" for value in maps.values())]] if maps else []
    files = ["file", *[""] * len(rows)]
    for name, part in done.items():
        agreed = part.agreement
        differing = "" if FORMATS[name].quantized else agreed.differing
        row = [name, f"{part.megabytes:.2f}", f"{agreed.before:.2g}", agreed.boxes, differing]
        row += [f"{agreed.found}/{agreed.confident}", *(f"{part.maps[each]:.4f}" for each in maps)]
        rows.append(row)
        files.append("FAILED" if part.faults else part.path)
    lines = text_table(["format", "MB", "difference", "boxes", "differ", "sure", *maps], rows)
    return [f"{line}  {file}".rstrip() for line, file in zip(lines, files, strict=True)]
