"""What every job starts and ends with."""

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ssd.checkpoint.model import Model, ModelSpec
from ssd.config.commands import task_overrides
from ssd.config.overrides import key_of
from ssd.config.parts import DETECTION_KEYS, network_config
from ssd.config.paths import CONF
from ssd.config.weights import Fetching, entry_of
from ssd.data.base import Sample
from ssd.data.datasets.build import make_dataset
from ssd.data.datasets.fingerprint import fingerprint
from ssd.data.inspection.checks import nearly_equal
from ssd.data.inspection.gate import Gate
from ssd.data.inspection.looking import Known
from ssd.data.inspection.problems import Problem
from ssd.detection.detector import Detector
from ssd.detection.onnx_file import OnnxModel
from ssd.detection.open_model import open_model
from ssd.evaluation.analysis import analyze
from ssd.evaluation.coco import Numbering
from ssd.evaluation.measure import EvalResult
from ssd.evaluation.report_files import write_report
from ssd.evaluation.report_page import ReportMeta
from ssd.evaluation.thresholds import Thresholds, choose_thresholds
from ssd.importers.gluoncv_ssd import is_gluoncv
from ssd.importers.mxnet_ssd import released_model
from ssd.jobs.provenance import gather_provenance, sweep
from ssd.mxnet_compat import contexts, mx
from ssd.runs.results import Conditions, Results, images_folder, named
from ssd.symbol.graphs import has_heads
from ssd.tracking.events import Events, RunInfo, make_writers
from ssd.tracking.files import RunFiles
from ssd.tracking.optuna import trial_writers
from ssd.utils.atomic_files import write_atomically
from ssd.utils.errors import UserError
from ssd.utils.names import file_name
from ssd.utils.text_table import text_table
from ssd.weights.gluoncv import open_gluoncv, published_network
from ssd.weights.load import load_detector

log = logging.getLogger(__name__)

SOUND = "sound.txt"  # in the folder of the records: images that need not be looked at again
METRIC = "val/map_11pt"  # picks the best epoch, and is what a sweep optimizes


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)


def open_gate(cfg: DictConfig) -> Gate:
    """What every job gets its samples from. Errors: UserError of the dataset."""
    known = Known(Path(cfg.training.records) / file_name(str(cfg.dataset.name)) / SOUND)
    gate = Gate(lambda: make_dataset(cfg.dataset), cfg.dataset.on_error, known)
    if pair := nearly_equal(gate.classes):
        log.warning("classes %r and %r are two classes; if they are one, write them alike", *pair)
    return gate


def open_detector(cfg: DictConfig) -> Detector:
    """The detector of cfg.model, see requested_model."""
    return Detector(requested_model(cfg), contexts(cfg.device)[0], cfg.batch_size, cfg.model)


def requested_model(cfg: DictConfig) -> Model | OnnxModel:
    """cfg.model. It decodes as it says itself, but for what is asked otherwise (`asked_for`).
    Errors: UserError, see open_model and check_fixed."""
    model: Model | OnnxModel | None = _published_model(cfg)
    model = model or released_model(cfg.model, network_config(cfg), cfg.dataset.get("classes"))
    model = model or open_model(cfg.model)
    asked = asked_for(cfg)
    if isinstance(model, OnnxModel) or not has_heads(model.symbol):
        check_fixed(model.spec, asked, cfg.model)
    detection = {**model.spec.detection}
    detection |= {key: value for key, value in asked.items() if key != "compat"}
    spec = replace(model.spec, detection=detection, compat=asked.get("compat", model.spec.compat))
    return replace(model, spec=spec)


def _published_model(cfg: DictConfig) -> Model | None:
    """The detector that cfg.model names in the registry of weights, or a file of one by GluonCV; None where it is
    another path. Errors: UserError."""
    if (entry := entry_of(cfg.model)) is not None:
        return load_detector(entry, published_network(entry), Fetching(cfg.init.mirror, cfg.init.offline))
    return open_gluoncv(Path(cfg.model), cfg.dataset.get("classes")) if is_gluoncv(cfg.model) else None


def check_fixed(spec: ModelSpec, asked: dict[str, Any], source: str) -> None:
    """A deployed model cannot change compat, nor, decoding as the original does, its thresholds. Errors: UserError."""
    said = {**spec.detection, "compat": spec.compat}
    for key, value in asked.items():
        if value != said[key] and (key == "compat" or spec.compat):
            name = key if key == "compat" else f"detection.{DETECTION_KEYS[key]}"
            raise UserError(f"model {source}: {name} is {said[key]} inside this file; take the checkpoint it came from")


def asked_for(cfg: DictConfig) -> dict[str, Any]:
    """compat and, by their names in specs, the keys of cfg.detection that the command line names, or that differ from
    conf/config.yaml because a recipe says so."""
    named = {key_of(override) for override in task_overrides()}
    default = OmegaConf.load(CONF / "config.yaml")
    keys = {"compat": "compat", **{field: f"detection.{key}" for field, key in DETECTION_KEYS.items()}}
    return {
        name: OmegaConf.select(cfg, key)
        for name, key in keys.items()
        if key in named or OmegaConf.select(cfg, key) != OmegaConf.select(default, key)
    }


@dataclass(frozen=True)
class RunLength:
    """How long a job is: its epochs (0 for one that has none) of so many steps, or the steps of all of it; and how many
    steps were done before, where a run is resumed."""

    epochs: int
    steps: int
    resumed_at: int | None = None


def start_events(
    cfg: DictConfig,
    folder: Path,
    course: RunLength,
    splits: Mapping[str, Sequence[Sample]],
    skipped: Mapping[str, Sequence[Problem]],
) -> Events:
    """Saves the resolved configuration in the run directory and starts its writers. splits: the samples it uses;
    skipped: why others were left out of them."""
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
            facts=gather_provenance(cfg, splits, skipped),
            sweep=sweep(),
            resumed_at=course.resumed_at,
        )
    )
    return events


@dataclass(frozen=True)
class EvalTarget:
    """What was measured, as the report names it. conditions: its split and the rest of it. results: which checkpoint
    of which epoch the model is, and what is known of other splits. category_ids: COCO's in this split, of a dataset
    that has them. thresholds: where detections count from; None = as cfg.metric says, chosen on this split by default.
    """

    model: str
    conditions: Conditions
    results: Results
    category_ids: Sequence[int | str] | None
    thresholds: Thresholds | None = None


def conditions_of(cfg: DictConfig, split: str, samples: Sequence[Sample], same_images: str | None = None) -> Conditions:
    """How cfg.metric measures these samples of a split. same_images: another split that is the same images."""
    holdout: Any = OmegaConf.to_container(cfg.dataset.holdout, resolve=True)
    holdout.pop("cache", None)  # saves time and decides nothing
    if (group_by := cfg.dataset.get("group_by")) is not None:
        holdout["group_by"] = group_by
    return Conditions(
        dataset=str(cfg.dataset.name),
        split=split,
        images=len(samples),
        objects=int(sum((sample.boxes[:, 5] == 0).sum() for sample in samples)),
        fingerprint=fingerprint(samples, cfg.dataset.classes),
        iou=cfg.metric.iou,
        compat=cfg.metric.compat,
        holdout=holdout,
        same_images=same_images,
    )


def report(cfg: DictConfig, folder: Path, measured: EvalResult, subject: EvalTarget) -> tuple[Results, Thresholds]:
    """Analyses a measurement as cfg.metric says and writes its page and files into `folder`: report.html for the split
    of the headline numbers, report_<split>.html for another.

    Returns subject.results with all its numbers added, and the thresholds that its rates stand on.
    """
    metric, split = cfg.metric, subject.conditions.split
    thresholds = subject.thresholds or choose_thresholds(measured.voc, split, metric.threshold)
    standing = subject.results.standing
    facts = {"model": f"{subject.model} ({standing})" if standing else subject.model}
    facts |= {"dataset": f"{cfg.dataset.name}, {split}", "date": time.strftime("%Y-%m-%d %H:%M")}
    numbering = Numbering.of(measured.samples, subject.category_ids, len(measured.classes))
    analysis = analyze(measured.joined, measured.voc, metric, thresholds, numbering, measured.annotated)
    about = ReportMeta(
        title=f"{cfg.dataset.name}, {split}: {len(measured.samples):,} images measured",
        split=split,
        same_images=subject.conditions.same_images,
        page=page_of(subject.results, split),
        facts=facts,
        iou=metric.iou,
        compat=metric.compat,
        worst_images=metric.worst_images,
        category_ids=subject.category_ids,
    )
    write_report(folder, measured, analysis, about)
    values = {**subject.results.values, **named(split, measured.values() | analysis.values())}
    ways = {**subject.results.measured, split: replace(subject.conditions, thresholds=thresholds.source)}
    return replace(subject.results, values=values, measured=ways), thresholds


def page_of(results: Results, split: str) -> str:
    """Name of the page of a split."""
    return "report.html" if split == results.split else f"report_{split}.html"


def log_results(folder: Path, places: dict[str, str], results: Results, classes: Sequence[str]) -> None:
    """The last lines of a run: what came out, and where it lies; at the very end the means of each split."""
    for line in ap_table(results.flat(), classes):
        log.info("%s", line)
    reports = {f"report {split}": folder / page_of(results, split) for split in results.measured}
    log_places({**places, "images": images_folder(folder), **reports})
    for line in last_lines(results):
        log.info("%s", line)


def log_places(places: Mapping[str, Path | str]) -> None:
    """Where a run's results are: commands and addresses, and those of the files that are there."""
    for name, place in places.items():
        if isinstance(place, str) or place.exists():
            log.info("%-12s %s", name, place)


def last_lines(results: Results) -> list[str]:
    """The means of each split in a line, with what they stand for."""
    lines = []
    for split, how in results.measured.items():
        value = {name: results.values[f"{split}/{name}"] for name in ("map_11pt", "map_area", "f1")}
        rate = f"F1 {value['f1']:.4f} at thresholds from {how.thresholds}{' itself' if how.optimistic else ''}"
        means = f"mAP 11-point {value['map_11pt']:.4f}, area {value['map_area']:.4f}"
        notes = [f"{how.images} images", results.standing]
        notes += [f"the same images as {how.same_images}"] if how.same_images else []
        lines.append(f"{split:5} {means}; {rate} ({'; '.join(filter(None, notes))})")
    return lines


def ap_table(values: Mapping[str, float], classes: Sequence[str]) -> list[str]:
    """Per-class AP and the means as lines of text."""
    keys = [(name, f"ap_11pt/{name}", f"ap_area/{name}") for name in classes] + [("mean", "map_11pt", "map_area")]
    rows = [(name, f"{values[eleven]:.4f}", f"{values[area]:.4f}") for name, eleven, area in keys]
    return text_table(["", "AP 11-point", "AP area"], rows)
