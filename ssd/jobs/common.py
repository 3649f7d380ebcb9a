"""What every job starts and ends with."""

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ssd.config import CONF
from ssd.data.dataset import Dataset, Sample, make_dataset
from ssd.data.gate import Admitted, Gate
from ssd.data.looking import Known
from ssd.data.records import Records, ensure_records
from ssd.detection.detector import Detector
from ssd.engine import mx
from ssd.errors import UserError
from ssd.evaluation.analysis import analyse
from ssd.evaluation.coco import Numbering
from ssd.evaluation.measure import Measured
from ssd.evaluation.report.files import write_report
from ssd.evaluation.report.report import About
from ssd.files import write_atomically
from ssd.interop.models import open_model
from ssd.interop.onnx.file import OnnxModel
from ssd.interop.released import released_model
from ssd.jobs.facts import facts, sweep
from ssd.model import Model, ModelSpec
from ssd.names import file_name
from ssd.sweeps.trial import trial_writers
from ssd.symbol.graphs import has_heads
from ssd.tracking.events import Events, RunInfo, make_writers
from ssd.tracking.files import RunFiles
from ssd.training.trainer import contexts

log = logging.getLogger(__name__)

SOUND = "sound.txt"  # in the folder of the records: images that need not be looked at again
METRIC = "val/map_11pt"  # picks the best epoch, and is what a sweep optimises


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)


def open_gate(cfg: DictConfig) -> Gate:
    """What every job gets its samples from; the class names go into cfg.dataset.classes. Errors: UserError of the data
    set."""
    known = Known(Path(cfg.training.records) / file_name(str(cfg.dataset.name)) / SOUND)
    gate = Gate(lambda: make_dataset(cfg.dataset), cfg.dataset.on_error, known)
    cfg.dataset.classes = list(gate.classes)
    return gate


def training_splits(dataset: Dataset) -> list[str]:
    """What a training uses of a dataset."""
    return ["train", "val", *(["test"] if "test" in dataset.available else [])]


def packed(cfg: DictConfig, dataset: Dataset, split: str, admitted: Admitted) -> Records:
    """The records of a split: those that the data set consists of if they can be used, else packed on first use."""
    folder = Path(cfg.training.records) / file_name(str(cfg.dataset.name))
    samples, whole = admitted.samples[split], split not in admitted.skipped
    as_they_are = dataset.records(split, folder) if whole and cfg.training.max_side is None else None
    # Packed in one order for all seeds, so that a sweep over them shares the files; the loader shuffles by cfg.seed.
    return as_they_are or ensure_records(samples, folder, split, seed=0, max_side=cfg.training.max_side)


def open_detector(cfg: DictConfig) -> Detector:
    """The detector of cfg.model, see asked_model."""
    return Detector(asked_model(cfg), contexts(cfg.device)[0], cfg.batch_size, cfg.model)


def asked_model(cfg: DictConfig) -> Model | OnnxModel:
    """cfg.model. It decodes as it says itself, but for what is asked otherwise (`asked_for`); cfg.detection then holds
    what it does. Errors: UserError, see open_model and check_fixed."""
    model = released_model(cfg) or open_model(cfg.model)
    asked = asked_for(cfg)
    if isinstance(model, OnnxModel) or not has_heads(model.symbol):
        check_fixed(model.spec, asked, cfg.model)
    detection = {**model.spec.detection}
    detection |= {key: value for key, value in asked.items() if key != "compat"}
    spec = replace(model.spec, detection=detection, compat=asked.get("compat", model.spec.compat))
    cfg.detection.update(detection)
    return replace(model, spec=spec)


def check_fixed(spec: ModelSpec, asked: dict[str, Any], source: str) -> None:
    """A deployed model cannot change compat, nor, decoding as the original does, its thresholds. Errors: UserError."""
    said = {**spec.detection, "compat": spec.compat}
    for key, value in asked.items():
        if value != said[key] and (key == "compat" or spec.compat):
            name = key if key == "compat" else f"detection.{key}"
            raise UserError(f"model {source}: {name} is {said[key]} inside this file; take the checkpoint it came from")


def asked_for(cfg: DictConfig) -> dict[str, Any]:
    """compat and the keys of cfg.detection that the command line names, or that differ from conf/config.yaml because a
    recipe says so."""
    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    named = {word.lstrip("+~").split("=")[0] for word in words}
    default = OmegaConf.load(CONF / "config.yaml")
    keys = {"compat": "compat", **{key: f"detection.{key}" for key in cfg.detection}}
    return {
        name: OmegaConf.select(cfg, key)
        for name, key in keys.items()
        if key in named or OmegaConf.select(cfg, key) != OmegaConf.select(default, key)
    }


@dataclass(frozen=True)
class Course:
    """How long a job is: its epochs (0 for one that has none) of so many steps, or the steps of all of it; and how many
    steps were done before, where a run is gone on with."""

    epochs: int
    steps: int
    resumed_at: int | None = None


def start_events(cfg: DictConfig, folder: Path, course: Course, splits: Mapping[str, Sequence[Sample]]) -> Events:
    """Saves the resolved configuration in the run directory and starts its writers. splits: the samples it uses."""
    write_atomically(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True).encode())
    events = Events({"files": RunFiles(), **make_writers(cfg.logger), **trial_writers(METRIC)})
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    events.start(
        RunInfo(
            name="/".join(folder.parts[-2:]),
            job=cfg.job.name,
            config=plain,
            folder=folder,
            classes=plain["dataset"]["classes"],
            epochs=course.epochs,
            steps=course.steps,
            facts=facts(cfg, splits),
            sweep=sweep(),
            resumed_at=course.resumed_at,
        )
    )
    return events


@dataclass(frozen=True)
class Subject:
    """What was measured, as the report names it. category_ids: COCO's in this split, of a dataset that has them."""

    model: str
    split: str
    category_ids: Sequence[int | str] | None


def report(cfg: DictConfig, folder: Path, measured: Measured, subject: Subject) -> dict[str, float]:
    """Analyses a measurement as cfg.metric says and writes report.html and its files into `folder`.

    Returns all its numbers, named val/….
    """
    metric = cfg.metric
    facts = {"model": subject.model, "data set": f"{cfg.dataset.name}, {subject.split}"}
    facts["date"] = time.strftime("%Y-%m-%d %H:%M")
    numbering = Numbering.of(measured.samples, subject.category_ids, len(measured.classes))
    analysis = analyse(measured.truth, measured.detections, measured.voc, metric, numbering, measured.annotated)
    about = About(
        title=f"{cfg.dataset.name}, {subject.split}: {len(measured.samples):,} images measured",
        facts=facts,
        iou=metric.iou,
        compat=metric.compat,
        fixed_threshold=metric.threshold is not None,
        gallery=metric.gallery,
        category_ids=subject.category_ids,
    )
    write_report(folder, measured, analysis, about)
    return measured.values() | analysis.values()


def tell_results(folder: Path, places: dict[str, str], lines: Sequence[str]) -> None:
    """The last lines of a run: what came out, and where it lies."""
    for line in lines:
        log.info("%s", line)
    for name, place in places.items():
        log.info("%-12s %s", name, place)
    log.info("%-12s %s", "pictures", folder / "pictures")
    log.info("%-12s %s", "report", folder / "report.html")


def ap_table(values: dict[str, float], classes: Sequence[str]) -> list[str]:
    """Per-class AP and the means as lines of text."""
    width = max(len(name) for name in [*classes, "mean"])
    lines = [f"{'':{width}}  AP 11-point  AP area"]
    for name in classes:
        lines.append(f"{name:{width}}  {values[f'val/ap_11pt/{name}']:11.4f}  {values[f'val/ap_area/{name}']:7.4f}")
    lines.append(f"{'mean':{width}}  {values['val/map_11pt']:11.4f}  {values['val/map_area']:7.4f}")
    return lines
