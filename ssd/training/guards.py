"""What ends a training before its epochs are over, and what it lets pass: conf/config.yaml, guard and max_hours."""

import logging
import math
import statistics
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ssd.checkpoint.store import CALMER
from ssd.config.parts import GuardConfig
from ssd.training.hook import Hook
from ssd.training.losses import StepLosses
from ssd.training.progress import count_of, real
from ssd.utils.errors import DivergedError, UserError

if TYPE_CHECKING:
    from ssd.training.fit import TrainLoop

SKIPPING = f"{CALMER}; guard.non_finite=skip leaves such steps out"

log = logging.getLogger(__name__)


class Guards(Hook):
    """Looks at every step's losses and every validation.

    Its state belongs to a checkpoint: an interruption changes nothing of what is noticed when.
    """

    def __init__(self, config: GuardConfig, metric: str, advice: Callable[[], str]) -> None:
        """metric: what of a validation says how good it is. advice: what to do about a loss that has diverged."""
        self._config = config
        self._metric = metric
        self._advice = advice
        self.skipped = 0  # steps whose update was left out
        self._exploded = 0  # steps in a row
        self._losses: deque[float] = deque(maxlen=config.spike_window)
        self._best: float | None = None
        self._waited = 0  # validations in a row without a better one

    def before_epoch(self, loop: "TrainLoop") -> None:
        if loop.progress.step and (why := self.ended(loop.progress.run.elapsed)):
            loop.stop(why)

    def after_backward(self, loop: "TrainLoop") -> None:
        """Errors: UserError for a step that is not finite. It does not count: repeated after a resume, it is judged as
        it was here."""
        if why := self.refused(loop.losses):
            raise UserError(f"{_named(why, loop, loop.progress.step + 1)}; {SKIPPING}")

    def after_step(self, loop: "TrainLoop") -> None:
        """Errors: DivergedError for a loss that explodes."""
        if why := self.count(loop.losses):
            raise DivergedError(f"{_named(why, loop, loop.progress.step)}; {self._advice()}")
        if not loop.losses.finite:
            log.warning(
                "step %d skipped, number %d: loss or gradient is not finite; images: %s",
                loop.progress.step, self.skipped, ", ".join(loop.loader.names(loop.batch)),
            )  # fmt: skip
        if why := self.out_of_time(loop.progress.run.elapsed):
            loop.stop(why)

    def after_epoch(self, loop: "TrainLoop") -> None:
        self.validated(loop.metrics.get(self._metric))

    def refused(self, losses: StepLosses) -> str | None:
        """Why training must stop at a step that is not finite; None where it may be skipped, and for all others."""
        if losses.finite:
            return None
        what = "a gradient" if losses.loss_finite else "the loss"
        numbers = f"cross-entropy {losses.cross_entropy:.4g}, smooth L1 {losses.smooth_l1:.4g}"
        if self._config.non_finite == "stop":
            return f"{what} is not finite ({numbers})"
        if self.skipped == self._config.max_skipped:
            return f"{what} is not finite ({numbers}), and {self.skipped} steps were skipped before"
        return None

    def count(self, losses: StepLosses) -> str | None:
        """Why training must stop after this step, or None."""
        if not losses.finite:
            self.skipped += 1
            return None
        factor, steps = self._config.spike_factor, self._config.spike_steps
        if factor is None:
            return None
        usual = statistics.median(self._losses) if len(self._losses) >= steps else None
        if usual is None or losses.loss <= factor * usual:
            self._losses.append(losses.loss)
            self._exploded = 0
            return None
        self._exploded += 1
        if self._exploded < steps:
            return None
        return (
            f"the loss explodes: {losses.loss:.4g}, more than {factor:g} times its usual {usual:.4g} for {steps} steps"
        )

    def validated(self, value: float | None) -> None:
        """value: the metric of a validation, None when it was not measured."""
        if value is None or math.isnan(value):
            return
        if self._best is None or value > self._best + self._config.min_delta:
            self._best, self._waited = value, 0
        else:
            self._waited += 1

    def ended(self, seconds: float) -> str | None:
        """Why training may end after this epoch, or None. seconds: see out_of_time."""
        patience = self._config.patience
        if patience is not None and self._waited >= patience:
            reason = f"early_stopping.patience={patience}"
            return f"no better than {self._best:.4f} for {self._waited} validations ({reason})"
        return self.out_of_time(seconds)

    def out_of_time(self, seconds: float) -> str | None:
        """seconds: of the run so far, those before interruptions included."""
        hours = self._config.max_hours
        if hours is None or seconds < hours * 3600:
            return None
        return f"max_hours={hours:g} are over"

    def state_dict(self) -> dict[str, Any]:
        return {
            "skipped": self.skipped,
            "exploded": self._exploded,
            "losses": list(self._losses),
            "best": self._best,
            "waited": self._waited,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Errors: KeyError, TypeError, ValueError for what state_dict() never gives."""
        self.skipped, self._exploded = count_of(state["skipped"]), count_of(state["exploded"])
        self._losses.extend(real(loss) for loss in state["losses"])
        self._best = None if state["best"] is None else real(state["best"])
        self._waited = count_of(state["waited"])


def _named(why: str, loop: "TrainLoop", step: int) -> str:
    return f"{why} in epoch {loop.epoch}, step {step}; images: {', '.join(loop.loader.names(loop.batch))}"
