"""Learning rate over a run, by step. Positions are shares of the run, so `epochs=` may change freely."""

import math
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

# A policy gives the factor on the base rate at `progress` (share of the run done, 0..1).
Policy = Callable[[float, DictConfig], float]


def constant(progress: float, schedule: DictConfig) -> float:
    return 1.0


def step(progress: float, schedule: DictConfig) -> float:
    return float(schedule.factor ** sum(progress >= milestone for milestone in schedule.milestones))


def cosine(progress: float, schedule: DictConfig) -> float:
    """Loshchilov & Hutter 2017 (SGDR), eq. 5, one period."""
    return float(schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * progress)) / 2)


POLICIES: dict[str, Policy] = {"constant": constant, "step": step, "cosine": cosine}


class Schedule(mx.lr_scheduler.LRScheduler):
    """Rate of step `num_update` (1-based, as MXNet's optimizers count) of `total` steps, with linear warm-up.

    Errors: UserError for an unknown policy or positions that are no shares.
    """

    def __init__(self, schedule: DictConfig, base_rate: float, total: int) -> None:
        super().__init__(base_lr=base_rate)
        if schedule.name not in POLICIES:
            raise UserError(f"schedule.name={schedule.name}: choose from {', '.join(POLICIES)}")
        for key in ("milestones", "warmup"):
            positions: Any = schedule.get(key, [])
            for position in positions if key == "milestones" else [positions]:
                if not 0 <= position <= 1:
                    raise UserError(f"schedule.{key}: {position} is no share of the run; epoch 80 of 240 is 0.333")
        self._policy = POLICIES[schedule.name]
        self._config = schedule
        self._total = total
        self._warmup = schedule.warmup * total

    def __call__(self, num_update: int) -> float:
        done = max(0, num_update - 1)
        rate = self.base_lr * self._policy(min(1.0, done / self._total), self._config)
        return float(rate * min(1.0, num_update / self._warmup) if self._warmup >= 1 else rate)
