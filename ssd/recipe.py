"""What is checked of the keys that say how a network starts and learns. Imports nothing heavy."""

import math
import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ssd.errors import UserError

CHOICES = {
    "init.mode": ("scratch", "pretrained", "finetune"),
    "init.network": ("config", "weights"),
    "init.statistics": ("learn", "frozen"),
    "loss.classification": ("softmax", "focal"),
    "matching.mining": ("image", "batch"),
    "training.precision": ("float32", "bfloat16", "float16"),
    "training.weight_decay": ("weights", "all"),
}
DECAYS = ("momentum", "beta1", "beta2", "rho", "gamma1", "gamma2")  # of averages
BUT_HEADS = "but_heads"
STAGE = re.compile(r"stage:(\d+)")
NUMPY = ".npz"


def check_recipe(cfg: DictConfig) -> None:
    """Errors: UserError naming the key."""
    for key, choices in CHOICES.items():
        if (value := OmegaConf.select(cfg, key)) not in choices:
            raise UserError(f"{key}={value}: choose {' or '.join(choices)}")
    for key in ("training.ema", "loss.label_smoothing"):
        if not 0 <= (value := OmegaConf.select(cfg, key)) < 1:
            raise UserError(f"{key}={value}: expected 0 (off) or more, and less than 1")
    for key in ("loss.focal.alpha", "loss.focal.prior"):
        if not 0 < (value := OmegaConf.select(cfg, key)) < 1:
            raise UserError(f"{key}={value}: must lie between 0 and 1")
    if cfg.loss.focal.gamma < 0:
        raise UserError(f"loss.focal.gamma={cfg.loss.focal.gamma}: must be at least 0")
    if cfg.loss.label_smoothing and cfg.loss.classification != "softmax":
        raise UserError(f"loss.label_smoothing={cfg.loss.label_smoothing}: is of loss.classification=softmax")
    _check_optimizer(cfg.optimizer)
    _check_schedule(cfg.schedule)
    _check_matching(cfg.matching)
    _check_accumulate(cfg)
    _check_init(cfg.init)


def _check_optimizer(optimizer: DictConfig) -> None:
    options: Any = optimizer.items()
    for key, value in options:
        if key == "name" or (value is None and key == "clip_gradient"):
            continue
        _check_number(f"optimizer.{key}", value)
        if key in DECAYS and not 0 <= value < 1:
            raise UserError(f"optimizer.{key}={value}: must be at least 0 and less than 1")
        if value < 0 or (key in ("clip_gradient", "epsilon") and value == 0):
            raise UserError(f"optimizer.{key}={value}: must be {'at least' if value < 0 else 'more than'} 0")


def _check_schedule(schedule: DictConfig) -> None:
    for key in ("milestones", "factor", "warmup", "final"):
        values = schedule[key] if key in schedule else ListConfig([])
        for value in values if isinstance(values, ListConfig) else [values]:
            _check_number(f"schedule.{key}", value)


def _check_number(key: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{key}={'null' if value is None else value}: expected a number")


def _check_matching(matching: DictConfig) -> None:
    for key in ("overlap", "negative_overlap"):
        if not 0 < matching[key] <= 1:
            raise UserError(f"matching.{key}={matching[key]}: is an IoU, more than 0 and at most 1")
    for key in ("negative_ratio", "min_negatives"):
        if matching[key] < 0:
            raise UserError(f"matching.{key}={matching[key]}: must be at least 0")


def _check_accumulate(cfg: DictConfig) -> None:
    passes, devices = cfg.training.accumulate, len(cfg.device.ids)
    if passes < 1:
        raise UserError(f"training.accumulate={passes}: must be at least 1")
    if devices and cfg.job.name == "train":
        check_passes(cfg, devices, f" on {devices} devices each" if devices > 1 else "")


def check_passes(cfg: DictConfig, devices: int, where: str) -> None:
    """Errors: UserError when the passes of a step on so many devices would leave pictures over. where: said of them."""
    passes = cfg.training.accumulate
    if passes > 1 and cfg.batch_size % (passes * devices):
        raise UserError(
            f"training.accumulate={passes}: batch_size={cfg.batch_size} cannot be shared evenly by {passes} passes"
            f"{where}, take a multiple of {passes * devices}"
        )


def _check_init(init: DictConfig) -> None:
    if init.mode == "scratch" and init.weights is not None:
        raise UserError(f"init.weights={init.weights}: say what for, init.mode=pretrained or init.mode=finetune")
    foreign = init.weights is not None and init.weights.endswith(NUMPY)
    if foreign and init.mode == "finetune":
        raise UserError(f"init.weights={init.weights}: says nothing of its classes; use init.mode=pretrained")
    if foreign and init.names is None:
        raise UserError(f"init.weights={init.weights}: say what its parameters are called, with the group names=")
    if init.names is not None and init.weights is not None and not foreign:
        raise UserError(f"names=: are of an .npz, not of init.weights={init.weights}")
    if init.statistics == "frozen" and init.mode == "scratch":
        raise UserError("init.statistics=frozen: a network from scratch has none yet")
    for group, rate in init.rates.items():
        if rate < 0:
            raise UserError(f"init.rates.{group}={rate}: must be at least 0")
