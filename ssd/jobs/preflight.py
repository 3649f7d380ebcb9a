"""Checks at the start of a job: what cannot work is reported before images are read, packed or measured."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssd.config.augment import input_shapes
from ssd.config.parts import loader_config, network_config
from ssd.data.loaders.build import check_loader
from ssd.export.calibration import check_method
from ssd.mxnet_compat import contexts, mx
from ssd.symbol.features import feature_maps
from ssd.symbol.graphs import build_train
from ssd.tracking.events import make_writers
from ssd.training.groups import frozen_by, frozen_names
from ssd.training.hook import make_hooks
from ssd.training.precision import prepare
from ssd.training.schedules import Schedule
from ssd.training.start import read_source, take_over
from ssd.utils.atomic_files import unwritable
from ssd.utils.errors import UserError

ON_DEVICES = ("train", "eval", "demo", "deploy", "benchmark")  # jobs
RECORDED = ("train", "eval")  # by the loggers
PACKING = ("train", "prepare")


def check_start(cfg: DictConfig) -> None:
    """Errors: UserError for what this configuration needs and this machine, or the model to start from, has not."""
    job = cfg.job.name
    learns = job == "train" or (job == "check" and cfg.check.overfit is not None)
    if job in ON_DEVICES or learns:
        contexts(cfg.device)
    if job in RECORDED:
        make_writers(cfg.logger)
    if job == "train":
        make_hooks(cfg.hooks)
    if job in PACKING and (reason := unwritable(Path(cfg.training.records) / "x")):
        raise UserError(f"training.records={cfg.training.records}: {reason}; name another folder")
    if job == "deploy":
        check_method(cfg.deploy.calibration.method)
    if job in ("train", "check", "anchors"):
        feature_maps(cfg)
    if learns:
        _check_training(cfg)


def _check_training(cfg: DictConfig) -> None:
    prepare(cfg)
    loader = loader_config(cfg)
    check_loader(loader, loader.batch_size)
    network = network_config(cfg)
    for shape in input_shapes(loader.augment, network.input.shape):
        feature_maps(network.at(shape))
    graph, shapes = build_train(network, 1), {"data": (1, 3, *network.input.shape), "label": (1, 1, 6)}
    frozen_names(graph, frozen_by(cfg), shapes)
    if cfg.init.mode != "scratch" and cfg.resume in (None, "auto"):
        with _in_silence("ssd.training.start", "ssd.export"):
            take_over(graph, shapes, source := read_source(cfg.init, graph), [], by_class=False)
        if cfg.init.mode == "finetune" and source.classes is None:
            raise UserError(f"init.weights={source.path}: says nothing of its classes; use init.mode=pretrained")
    _check_optimizer(cfg)


def _check_optimizer(cfg: DictConfig) -> None:
    options: Any = OmegaConf.to_container(cfg.optimizer, resolve=True)
    name = options.pop("name")
    Schedule(cfg.schedule, options["learning_rate"], 1)
    if options.get("clip_gradient") is None:
        options.pop("clip_gradient", None)
    try:
        mx.optimizer.create(name, **options)
    except (ValueError, TypeError) as error:
        raise UserError(f"optimizer {name}: {str(error).splitlines()[0]}") from error


@contextmanager
def _in_silence(*names: str) -> Iterator[None]:
    """What is logged of a rehearsal would be logged again."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
