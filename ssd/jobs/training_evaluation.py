"""The evaluation of a training: on val as it proceeds, and of its best checkpoint when it is over."""

import logging
import math
import time
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from ssd.checkpoint.index import epoch_of
from ssd.checkpoint.model import load_model
from ssd.checkpoint.store import Checkpoints
from ssd.detection.detector import Detector
from ssd.evaluation.measure import EvalResult, evaluate
from ssd.jobs.common import METRIC, EvalTarget, conditions_of, page_of, report
from ssd.jobs.training_data import TrainingData
from ssd.runs.results import BEST, Conditions, Results, named
from ssd.tracking.events import Events
from ssd.training.fit import TrainLoop
from ssd.training.hooks import Signals

log = logging.getLogger(__name__)


class Evaluation:
    """Evaluates with `detector`, which gets the parameters, and reports to `events`."""

    def __init__(
        self, cfg: DictConfig, data: TrainingData, detector: Detector, checkpoints: Checkpoints, events: Events,
        stop: Signals,
    ) -> None:  # fmt: skip
        self._cfg = cfg
        self._data = data
        self._detector = detector
        self._checkpoints = checkpoints
        self._events = events
        self._stop = stop
        self._conditions = conditions_of(cfg, "val", data.evaluated["val"], data.same_as_val)

    def report_standing(self) -> None:
        """What the run is known by so far."""
        self._events.results(standing(self._checkpoints, self._conditions))

    def validate(self, loop: TrainLoop) -> dict[str, float]:
        """Numbers of the network as it is, named val/…; its curves and sample images go to the loggers."""
        started = time.perf_counter()
        self._detector.set_params(*loop.trainer.params())
        measured = self._measure("val", loop.progress.step)
        return named("val", measured.values()) | {"val/seconds": time.perf_counter() - started}

    def evaluate_best(self, folder: Path, ended: str | None) -> Results:
        """Evaluates the best checkpoint on all splits and writes their reports into `folder`. ended: why training has
        ended early. What counts is the file: it is read back and evaluated as any other model."""
        best = load_model(self._checkpoints.best)
        self._detector.set_params(best.arg_params, best.aux_params)
        results, thresholds = replace(standing(self._checkpoints, self._conditions), reason=ended), None
        for split, samples in self._data.evaluated.items():
            log.info("measuring the %s checkpoint on the %d images of %s", results.checkpoint, len(samples), split)
            measured = self._measure(split, results.step or 0)
            how = self._conditions if split == "val" else conditions_of(self._cfg, split, samples)
            ids = self._data.dataset.split_category_ids(split)
            subject = EvalTarget(str(self._checkpoints.best), how, results, ids, thresholds)
            results, thresholds = report(self._cfg, folder, measured, subject)
            self._events.artifact(folder / page_of(results, split), "report")
        return results

    def _measure(self, split: str, step: int) -> EvalResult:
        samples = self._data.evaluated[split]
        measured = evaluate(self._detector, samples, self._cfg.metric, lambda done: self._stop.heed())
        measured.log_to(self._events, split, step, self._cfg.training.samples)
        return measured


def standing(checkpoints: Checkpoints, conditions: Conditions) -> Results:
    """What the run is known by so far: the best checkpoint and its validation, or before there is one the last."""
    if checkpoints.standing is None:
        return Results(split=conditions.split)
    kind, entry = checkpoints.standing
    results = Results(split=conditions.split, checkpoint=kind, epoch=epoch_of(entry), step=entry["step"])
    if kind != BEST:
        return results
    # A checkpoint of an earlier version only has the number that decides.
    found = entry.get("values", {METRIC: entry[METRIC]})
    values = {name: math.nan if value is None else value for name, value in found.items() if name != "val/seconds"}
    return replace(results, values=values, measured={conditions.split: conditions})
