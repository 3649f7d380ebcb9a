"""job=train: data to records, records to batches, batches to a network; then the best epoch measured and shown."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from ssd.checkpoint.index import FOLDER, LOCK, epoch_of, sha256
from ssd.checkpoint.model import Model, ModelSpec, load_model, stamp
from ssd.checkpoint.store import Checkpoints, Keep
from ssd.config.commands import task_overrides
from ssd.config.parts import cluster_config, loader_config
from ssd.data.base import Sample
from ssd.data.datasets.fingerprint import same_images
from ssd.data.loaders.base import Share, TrainLoader
from ssd.data.loaders.build import check_loader, make_train_loader
from ssd.data.recordio.cache import RECORDS, Records, in_use, label_width
from ssd.detection.detector import Detector
from ssd.evaluation.measure import measure
from ssd.jobs.common import (
    METRIC,
    Course,
    Subject,
    conditions_of,
    open_gate,
    packed,
    page_of,
    report,
    seed_everything,
    start_events,
    tell_results,
    training_splits,
)
from ssd.jobs.runtime import with_classes
from ssd.launch.coordinator import Lead, leading
from ssd.mxnet_compat import contexts
from ssd.runs.results import BEST, FINISHED, Conditions, Results, named
from ssd.runs.resume import AUTO, check_same, command
from ssd.tracking.graph_nodes import graph_nodes
from ssd.training.broadcast import begin
from ssd.training.fit import Fit
from ssd.training.guards import GuardConfig, Guards
from ssd.training.hook import make_hooks
from ssd.training.hooks import Checkpointing, Signals, Tracking, Validation
from ssd.training.keeper import Keeper, Often
from ssd.training.monitor import Monitor
from ssd.training.precision import prepare
from ssd.training.rescue import rescued
from ssd.training.trainer import Trainer
from ssd.utils.atomic_files import held, require_space, write_json
from ssd.utils.errors import InterruptedRun, LostWorkerError, UserError
from ssd.utils.signals import StopSignals

CHECKPOINTS_AT_LEAST = 2  # that are on the disk at a time: the last one stays until the next is written

GUARDS = "guards"  # the name of their state

log = logging.getLogger(__name__)


def run(cfg: DictConfig, folder: Path) -> float:
    """Trains as configured into the run directory `folder`, or goes on in that of cfg.resume; returns the validation
    mAP of the best epoch."""
    if cfg.resume == AUTO:
        log.info("resume=auto: no unfinished run of this configuration to go on with; a new one")
    elif is_resumed(cfg):
        folder = Path(cfg.resume)
    with held(folder / LOCK, f"resume={folder}"):
        try:
            with leading(cluster_config(cfg)) as lead:
                return _train(cfg, folder, lead)
        except (InterruptedRun, LostWorkerError) as error:
            raise type(error)(f"{error}; go on with: {command(folder)}") from error


def _train(cfg: DictConfig, folder: Path, lead: Lead | None) -> float:
    seed_everything(cfg.seed)
    contexts(cfg.device)  # a device that is not there, or lacks the precision, is told before any work
    prepare(cfg)
    gate = open_gate(cfg)
    cfg = with_classes(cfg, gate.classes)
    dataset = gate.dataset
    resumed = is_resumed(cfg)
    if resumed:
        check_same(folder, cfg)
    admitted = gate.admit(training_splits(cfg, dataset), folder, may_be_empty=["test"])
    train, val = admitted.samples["train"], admitted.samples["val"]
    test, same_as_val = own_test(admitted.samples.get("test", []), val)
    measured_at_end = {"val": val, "test": test} if test else {"val": val}
    # One width for both splits: a Module is bound to one shape, whichever split it is fed.
    width = max(label_width(train), label_width(val))
    batches = loader_config(cfg)
    check_loader(batches, len(train))
    records = packed(cfg, dataset, "train", admitted)
    write_json(folder / RECORDS, {"train": str(records.folder.resolve())})
    loader = make_train_loader(records, batches, width, lead.share if lead else Share())
    spec = ModelSpec.from_config(cfg, gate.classes, dataset.category_ids)
    with in_use(records), loader, StopSignals() as signals:
        keeper = start(cfg, folder, spec, loader, records)
        if lead:
            lead.signal = lambda: signals.name
            begin(lead, keeper)
        trainer, checkpoints, step = keeper.trainer, keeper.checkpoints, keeper.progress.step
        at_once = cfg.batch_size // cfg.training.accumulate  # what fits into memory
        detector = Detector(Model(spec, trainer.symbol, *trainer.params()), trainer.devices[0], at_once)
        splits = {"train": train, **measured_at_end}
        with start_events(
            cfg, folder, Course(cfg.epochs, loader.steps, step if resumed else None), splits, admitted.skipped
        ) as events:
            log.info(
                "training on %d images, validating on %d; classes: %s", len(train), len(val), ", ".join(gate.classes)
            )
            events.graph(graph_nodes(trainer.symbol, dict([*loader.provide_data, *loader.provide_label])))
            conditions = conditions_of(cfg, "val", val, same_as_val)

            def so_far() -> Results:
                return standing(checkpoints, conditions)

            events.results(so_far())
            stop = Signals(signals)

            def validate(epoch: int, step: int) -> dict[str, float]:
                if lead:
                    speed = keeper.progress.whole.values()["train/images_per_second"]
                    log.info("epoch %d: %.1f images/s by %d workers together", epoch, speed, lead.share.workers)
                started = time.perf_counter()
                detector.set_params(*trainer.params())
                measured = measure(detector, val, cfg.metric, lambda done: stop.heed())
                measured.tell(events, "val", step, cfg.training.samples)
                return named("val", measured.values()) | {"val/seconds": time.perf_counter() - started}

            saving = Checkpointing(keeper, loader.steps, lambda: events.results(so_far()))
            users = [hook for name, hook in keeper.hooks.items() if name != GUARDS]
            hooks = [
                Validation(validate, cfg.training.validate_every), Monitor(trainer, events), keeper.hooks[GUARDS],
                *([trainer.ema] if trainer.ema else []), *users, Tracking(cfg.training.log_every), saving, stop,
            ]  # fmt: skip
            with rescued(saving, lambda: command(folder)):
                ended = Fit(keeper, loader, cfg.epochs, hooks, events).run()
                if ended:
                    log.info("training ends early: %s", ended)

                # What counts is the file: the best epoch is read back and measured as anyone would.
                best = load_model(checkpoints.best)
                detector.set_params(best.arg_params, best.aux_params)
                results, thresholds = replace(so_far(), reason=ended), None
                for split, samples in measured_at_end.items():
                    log.info(
                        "measuring the %s checkpoint on the %d images of %s", results.checkpoint, len(samples), split
                    )
                    measured = measure(detector, samples, cfg.metric, lambda done: stop.heed())
                    measured.tell(events, split, results.step or 0, cfg.training.samples)
                    how = conditions if split == "val" else conditions_of(cfg, split, samples)
                    ids = dataset.split_category_ids(split)
                    subject = Subject(str(checkpoints.best), how, results, ids, thresholds)
                    results, thresholds = report(cfg, folder, measured, subject)
                    events.artifact(folder / page_of(results, split), "report")
                for file in (checkpoints.best, checkpoints.symbol):
                    events.artifact(file, "checkpoints")
                events.model(checkpoints.best, results)
                events.close(replace(results, status=FINISHED))
                places = events.where()
                checkpoints.finish()
    places["checkpoint"] = str(checkpoints.best)
    tell_results(folder, places, results, detector.classes)
    return results.values[METRIC]


def own_test(test: Sequence[Sample], val: Sequence[Sample]) -> tuple[Sequence[Sample], str | None]:
    """The images that the best checkpoint is measured on once, at the end, none where there is nothing to measure; and
    "test" where that split is the same images as val."""
    if not test:
        return [], None
    if same_images(test, val):
        return [], "test"
    if not any((sample.boxes[:, 5] == 0).any() for sample in test):
        log.info("test is not measured: none of its %d images has an object", len(test))
        return [], None
    return test, None


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


def start(cfg: DictConfig, folder: Path, spec: ModelSpec, loader: TrainLoader, records: Records) -> Keeper:
    """The network at its beginning, or where an interrupted run left it."""
    resumed = is_resumed(cfg)
    keep, often = cfg.checkpoint.keep, Often(cfg.checkpoint.every_steps, cfg.checkpoint.every_minutes)
    checkpoints = Checkpoints(folder / FOLDER, METRIC, Keep(keep.last, keep.every))
    words = task_overrides()
    if resumed and checkpoints.complete(cfg.epochs):
        raise UserError(f"resume={folder}: finished, all {cfg.epochs} epochs are done; more of them go on: epochs=")
    saved = checkpoints.resume(words) if resumed else checkpoints.begin(words)
    trainer = Trainer(cfg, spec.classes, loader, cfg.epochs * loader.steps, saved.start if saved else None)
    size = sum(array.size * np.dtype(array.dtype).itemsize for part in trainer.raw_params() for array in part.values())
    require_space(folder, CHECKPOINTS_AT_LEAST * size, "checkpoints of this network", "hydra.run.dir= names another")
    checkpoints.write_symbol(stamp(trainer.symbol, spec))
    hooks = {GUARDS: Guards(guard_config(cfg), METRIC, checkpoints.advice), **make_hooks(cfg.hooks)}
    keeper = Keeper(trainer, hooks, checkpoints, often, sha256(records.idx))
    if saved:
        keeper.restore(saved, loader.steps)
    if resumed:
        log.info("going on after step %d of %d in %s", keeper.progress.step, cfg.epochs * loader.steps, folder)
    return keeper


def guard_config(cfg: DictConfig) -> GuardConfig:
    guard = cfg.guard
    return GuardConfig(
        non_finite=guard.non_finite,
        max_skipped=guard.max_skipped,
        explode_factor=guard.explode.factor,
        explode_steps=guard.explode.steps,
        explode_window=guard.explode.window,
        patience=guard.patience,
        min_gain=guard.min_gain,
        max_hours=cfg.max_hours,
    )


def is_resumed(cfg: DictConfig) -> bool:
    return cfg.resume not in (None, AUTO)
