"""Learning rate over a run, by step. Positions are fractions of the run, so `epochs=` may change freely."""

import math
from collections.abc import Callable, Sequence

from ssd.config.parts import ScheduleConfig
from ssd.mxnet_compat import mx

# A policy gives the factor on the base rate at `progress` (fraction of the run done, 0..1), by its own options.
Policy = Callable[..., float]


def constant(progress: float) -> float:
    return 1.0


def step(progress: float, milestones: Sequence[float], factor: float) -> float:
    return float(factor ** sum(progress >= milestone for milestone in milestones))


def cosine(progress: float, final: float) -> float:
    """Loshchilov & Hutter 2017 (SGDR), eq. 5, one period."""
    return float(final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2)


POLICIES: dict[str, Policy] = {"constant": constant, "step": step, "cosine": cosine}


class Schedule(mx.lr_scheduler.LRScheduler):
    """Rate of step `num_update` (1-based, as MXNet's optimizers count) of `total` steps, with linear warm-up."""

    def __init__(self, schedule: ScheduleConfig, base_rate: float, total: int) -> None:
        super().__init__(base_lr=base_rate)
        self._policy = POLICIES[schedule.name]
        self._options = schedule.options
        self._total = total
        self._warmup = schedule.warmup * total

    def __call__(self, num_update: int) -> float:
        done = max(0, num_update - 1)
        rate = self.base_lr * self._policy(min(1.0, done / self._total), **self._options)
        return float(rate * min(1.0, num_update / self._warmup) if self._warmup >= 1 else rate)
