"""job=train: resolve, read the data, train a network on it, evaluate the best epoch."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from ssd.checkpoint.index import FOLDER, LOCK, sha256
from ssd.checkpoint.model import Model, ModelSpec, attach_spec
from ssd.checkpoint.store import Checkpoints, RetentionPolicy
from ssd.config.commands import task_overrides
from ssd.config.parts import cluster_config, guard_config, loader_config, trainer_config
from ssd.data.loaders.base import Shard, TrainLoader
from ssd.data.recordio.cache import RECORDS, Records
from ssd.detection.detector import Detector
from ssd.jobs.common import METRIC, RunLength, log_results, open_gate, seed_everything, start_events
from ssd.jobs.runtime import with_classes
from ssd.jobs.training_data import TrainingData, read_training_data
from ssd.jobs.training_evaluation import Evaluation
from ssd.launch.coordinator import Coordinator, launch_cluster
from ssd.runs.results import FINISHED, Results
from ssd.runs.resume import AUTO, check_same, command
from ssd.tracking.events import Events
from ssd.tracking.graph_nodes import graph_nodes
from ssd.training.distributed import broadcast_initial_state
from ssd.training.fit import TrainLoop
from ssd.training.guards import Guards
from ssd.training.hook import Hook, make_hooks
from ssd.training.hooks import Checkpointing, JointSpeed, Signals, Tracking, Validation
from ssd.training.monitor import Monitor
from ssd.training.rescue import rescued
from ssd.training.train_state import SaveInterval, TrainState
from ssd.training.trainer import Trainer
from ssd.utils.atomic_files import require_space, try_file_lock, write_json
from ssd.utils.errors import InterruptedRun, LostWorkerError, UserError
from ssd.utils.signals import StopSignals

CHECKPOINTS_AT_LEAST = 2  # that are on the disk at a time: the last one stays until the next is written

FEW_IMAGES = 5000  # of a training; with fewer, weights to start from make most of the difference
GUARDS = "guards"  # the name of their state

log = logging.getLogger(__name__)


def run(cfg: DictConfig, folder: Path) -> float:
    """Trains as configured into the run directory `folder`, or resumes in that of cfg.resume; returns the validation
    mAP of the best epoch."""
    if cfg.resume == AUTO:
        log.info("resume=auto: no unfinished run of this configuration to go on with; a new one")
    elif is_resumed(cfg):
        folder = Path(cfg.resume)
    with try_file_lock(folder / LOCK, f"resume={folder}"):
        try:
            with launch_cluster(cluster_config(cfg)) as lead:
                return _train(cfg, folder, lead)
        except (InterruptedRun, LostWorkerError) as error:
            raise type(error)(f"{error}; go on with: {command(folder)}") from error


def _train(cfg: DictConfig, folder: Path, lead: Coordinator | None) -> float:
    seed_everything(cfg.seed)
    gate = open_gate(cfg)
    cfg = with_classes(cfg, gate.classes)
    if is_resumed(cfg):
        check_same(folder, cfg)
    data = read_training_data(cfg, gate, folder)
    if cfg.init.mode == "scratch" and not is_resumed(cfg):
        advise_weights(len(data.samples["train"]), cfg.backbone.name, cfg.backbone.weights)
    write_json(folder / RECORDS, {"train": str(data.records.folder.resolve())})
    spec = ModelSpec.from_config(cfg, gate.classes, gate.dataset.category_ids)
    share = lead.share if lead else Shard()
    with data.open_loader(loader_config(cfg), share) as loader, StopSignals() as signals:
        train_state, stop = start(cfg, folder, spec, loader, data.records), Signals(signals)
        if lead:
            lead.signal = lambda: signals.name
            broadcast_initial_state(lead, train_state)
        detector = make_detector(cfg, spec, train_state.trainer)
        course = RunLength(cfg.epochs, loader.steps, train_state.progress.step if is_resumed(cfg) else None)
        splits = {"train": data.samples["train"], **data.evaluated}
        with start_events(cfg, folder, course, splits, data.skipped) as events:
            log_start(events, data, loader, train_state.trainer)
            evaluation = Evaluation(cfg, data, detector, train_state.checkpoints, events, stop)
            evaluation.report_standing()
            saving = Checkpointing(train_state, loader.steps, evaluation.report_standing)
            hooks = [
                *([JointSpeed(share.workers)] if lead else []),
                Validation(evaluation.validate, cfg.training.validate_every),
                Monitor(train_state.trainer, events),
                *stateful_hooks(train_state),
                Tracking(cfg.training.log_every),
                saving,
                stop,
            ]
            with rescued(saving, lambda: command(folder)):
                ended = TrainLoop(train_state, loader, cfg.epochs, hooks, events).run()
                if ended:
                    log.info("training ends early: %s", ended)
                results = evaluation.evaluate_best(folder, ended)
                places = publish(events, train_state.checkpoints, results)
    log_results(folder, places, results, spec.classes)
    return results.values[METRIC]


def advise_weights(images: int, backbone: str, published: Sequence[str]) -> None:
    """Says of a training from scratch on few images that there are weights for its backbone. published: their names."""
    if published and images < FEW_IMAGES:
        log.info("training backbone=%s from scratch on %d images; published weights usually do far better on so few: "
                 "init.weights=imagenet (%s)", backbone, images, ", ".join(published))  # fmt: skip


def start(cfg: DictConfig, folder: Path, spec: ModelSpec, loader: TrainLoader, records: Records) -> TrainState:
    """The network at its beginning, or where an interrupted run left it."""
    resumed = is_resumed(cfg)
    keep, often = cfg.checkpoint.keep, SaveInterval(cfg.checkpoint.every_steps, cfg.checkpoint.every_minutes)
    checkpoints = Checkpoints(folder / FOLDER, METRIC, RetentionPolicy(keep.last, keep.every))
    overrides, steps = task_overrides(), cfg.epochs * loader.steps
    if resumed and checkpoints.complete(cfg.epochs):
        raise UserError(f"resume={folder}: finished, all {cfg.epochs} epochs are done; more of them go on: epochs=")
    saved = checkpoints.resume(overrides) if resumed else checkpoints.begin(overrides)
    trainer = Trainer(trainer_config(cfg), spec.classes, loader, steps, saved.start if saved else None)
    size = sum(array.size * np.dtype(array.dtype).itemsize for part in trainer.raw_params() for array in part.values())
    require_space(folder, CHECKPOINTS_AT_LEAST * size, "checkpoints of this network", "hydra.run.dir= names another")
    checkpoints.write_symbol(attach_spec(trainer.symbol, spec))
    hooks = {GUARDS: Guards(guard_config(cfg), METRIC, checkpoints.advice), **make_hooks(cfg.hooks)}
    train_state = TrainState(trainer, hooks, checkpoints, often, sha256(records.idx))
    if saved:
        train_state.restore(saved, loader.steps)
    if resumed:
        log.info("resuming at step %d of %d in %s", train_state.progress.step, steps, folder)
    return train_state


def make_detector(cfg: DictConfig, spec: ModelSpec, trainer: Trainer) -> Detector:
    """The detector of the network under training."""
    at_once = cfg.batch_size // cfg.training.accumulate  # what fits into memory
    return Detector(Model(spec, trainer.symbol, *trainer.params()), trainer.devices[0], at_once)


def log_start(events: Events, data: TrainingData, loader: TrainLoader, trainer: Trainer) -> None:
    counts, classes = (len(data.samples[split]) for split in ("train", "val")), ", ".join(data.dataset.classes)
    log.info("training on %d images, validating on %d; classes: %s", *counts, classes)
    events.graph(graph_nodes(trainer.symbol, dict([*loader.provide_data, *loader.provide_label])))


def stateful_hooks(train_state: TrainState) -> list[Hook]:
    """Guards, the moving average of weights, and those of users."""
    ema = train_state.trainer.ema
    users = [hook for name, hook in train_state.hooks.items() if name != GUARDS]
    return [train_state.hooks[GUARDS], *([ema] if ema else []), *users]


def publish(events: Events, checkpoints: Checkpoints, results: Results) -> dict[str, str]:
    """Gives loggers the best checkpoint and ends the run; returns where it is found."""
    for file in (checkpoints.best, checkpoints.symbol):
        events.artifact(file, "checkpoints")
    events.model(checkpoints.best, results)
    events.close(replace(results, status=FINISHED))
    places = events.where()
    checkpoints.finish()
    return {**places, "checkpoint": str(checkpoints.best)}


def is_resumed(cfg: DictConfig) -> bool:
    return cfg.resume not in (None, AUTO)
