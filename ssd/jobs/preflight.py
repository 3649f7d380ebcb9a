"""Checks at the start of a job: what cannot work is reported before images are read, packed or measured."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from ssd.config.parts import OptimizerConfig, loader_config, trainer_config
from ssd.data.loaders.build import check_loader
from ssd.export.calibration import check_method
from ssd.mxnet_compat import contexts, mx
from ssd.symbol.features import feature_maps
from ssd.symbol.graphs import build_train
from ssd.tracking.events import make_writers
from ssd.training.groups import frozen_names
from ssd.training.hook import make_hooks
from ssd.training.precision import prepare
from ssd.training.start import load_matching, read_source
from ssd.training.trainer import optimizer_errors
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
    config, loader = trainer_config(cfg), loader_config(cfg)
    prepare(config)
    check_loader(loader, loader.batch_size)
    network, init = config.network, config.init
    for shape in config.shapes:
        feature_maps(network.at(shape))
    graph, shapes = build_train(network, 1), {"data": (1, 3, *network.input.shape), "label": (1, 1, 6)}
    frozen_names(graph, init.freeze, shapes)
    if init.mode != "scratch" and cfg.resume in (None, "auto"):
        with _in_silence("ssd.training.start", "ssd.weights.load", "ssd.export"):
            load_matching(graph, shapes, source := read_source(init, graph), [], by_class=False)
        if init.mode == "finetune" and source.classes is None:
            raise UserError(f"init.weights={source.path}: says nothing of its classes; use init.mode=pretrained")
    _check_optimizer(config.optimizer)


def _check_optimizer(optimizer: OptimizerConfig) -> None:
    with optimizer_errors(optimizer.name):
        mx.optimizer.create(optimizer.name, learning_rate=optimizer.learning_rate, **optimizer.options)


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
