"""job=eval: any trained model measured on any split."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from ssd.checkpoint.index import FOLDER, epoch_of, find_entry
from ssd.checkpoint.model import find_params
from ssd.data.base import Dataset, Sample
from ssd.data.datasets.fingerprint import same_images
from ssd.detection.open_model import KINDS
from ssd.evaluation.measure import evaluate
from ssd.jobs.common import (
    EvalTarget,
    RunLength,
    conditions_of,
    log_results,
    open_detector,
    open_gate,
    page_of,
    report,
    start_events,
)
from ssd.jobs.runtime import with_classes, with_decoding
from ssd.runs.results import FINISHED, HEADLINE, Results
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)


def run(cfg: DictConfig, folder: Path) -> float:
    """Measures cfg.model on split cfg.job.split; returns its mAP (11-point)."""
    if cfg.model is None:
        raise UserError(f"job=eval needs model=: {KINDS}")
    log.info("job=eval on the %s split of %s", cfg.job.split, cfg.dataset.name)
    detector = open_detector(cfg)
    gate = open_gate(cfg)
    cfg = with_decoding(with_classes(cfg, gate.classes), detector.spec.detection)
    dataset = gate.dataset
    if list(gate.classes) != detector.classes:
        raise UserError(
            f"model {cfg.model} knows {len(detector.classes)} classes ({', '.join(detector.classes)}), "
            f"dataset {cfg.dataset.name} has {len(gate.classes)} ({', '.join(gate.classes)}); "
            "choose the dataset that fits the model"
        )
    admitted = gate.admit([cfg.job.split], folder)
    samples = admitted.samples[cfg.job.split]
    split, twin = what_it_is(dataset, cfg.job.split, samples)
    results = standing_of(cfg.model, split)
    with start_events(cfg, folder, RunLength(0, len(samples)), {split: samples}, admitted.skipped) as events:
        events.results(results)
        log.info("measuring %s on the %d images of %s", cfg.model, len(samples), split)
        measured = evaluate(detector, samples, cfg.metric, lambda done: events.progress(1, done, {}))
        measured.log_to(events, split, results.step or 0, cfg.training.samples)
        conditions = conditions_of(cfg, split, samples, twin)
        subject = EvalTarget(cfg.model, conditions, results, dataset.split_category_ids(cfg.job.split))
        results, _ = report(cfg, folder, measured, subject)
        events.artifact(folder / page_of(results, split), "report")
        events.close(replace(results, status=FINISHED))
        places = events.where()
    log_results(folder, places, results, detector.classes)
    return results.flat()[HEADLINE]


def what_it_is(dataset: Dataset, split: str, samples: Sequence[Sample]) -> tuple[str, str | None]:
    """The split that these samples are, and another one that is the same images.

    The test split of a dataset without one is its val split: then it is named so.
    """
    other = {"val": "test", "test": "val"}.get(split)
    if other is None or (other == "test" and "test" not in dataset.available):
        return split, None
    with suppress(UserError):  # of a split that nobody asked for
        if same_images(samples, dataset.split(other)):
            if "test" in dataset.available:
                return split, other
            log.info("the dataset has no test split of its own: these are the images of val")
            return other, None
    return split, None


def standing_of(model: str, split: str) -> Results:
    """Nothing measured yet on this split, of a model whose checkpoint, epoch and step are named if they are known."""
    path = Path(model)
    if path.suffix != ".params" and not (path / FOLDER).is_dir():
        return Results(split=split)
    found = find_entry(find_params(path))
    if found is None:
        return Results(split=split)
    kind, entry = found
    return Results(split=split, checkpoint=kind, epoch=epoch_of(entry), step=entry["step"])
