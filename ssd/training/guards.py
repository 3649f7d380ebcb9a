"""What ends a training before its epochs are over, and what it lets pass: conf/config.yaml, guard and max_hours."""

import math
import statistics
from collections import deque
from typing import Any

from omegaconf import DictConfig

from ssd.training.losses import StepLosses


class Guards:
    """Looks at every step's losses and every validation.

    Its state belongs to a checkpoint: an interruption changes nothing of what is noticed when.
    """

    def __init__(self, guard: DictConfig, max_hours: float | None) -> None:
        self._guard = guard
        self._max_hours = max_hours
        self.skipped = 0  # steps whose update was left out
        self._exploded = 0  # steps in a row
        self._losses: deque[float] = deque(maxlen=guard.explode.window)
        self._best: float | None = None
        self._waited = 0  # validations in a row without a better one

    def step(self, losses: StepLosses) -> str | None:
        """Why training must stop after this step, or None. A step that it stops at because it is not finite does not
        count: repeated after a resume, it is judged as it was here."""
        if not losses.finite:
            return self._not_finite(losses)
        factor, steps = self._guard.explode.factor, self._guard.explode.steps
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

    def _not_finite(self, losses: StepLosses) -> str | None:
        what = "a gradient" if losses.loss_finite else "the loss"
        numbers = f"cross-entropy {losses.cross_entropy:.4g}, smooth L1 {losses.smooth_l1:.4g}"
        if self._guard.non_finite == "stop":
            return f"{what} is not finite ({numbers})"
        if self.skipped == self._guard.max_skipped:
            return f"{what} is not finite ({numbers}), and {self.skipped} steps were skipped before"
        self.skipped += 1
        return None

    def validated(self, value: float | None) -> None:
        """value: the metric of a validation, None when it was not measured."""
        if value is None or math.isnan(value):
            return
        if self._best is None or value > self._best + self._guard.min_gain:
            self._best, self._waited = value, 0
        else:
            self._waited += 1

    def ended(self, seconds: float) -> str | None:
        """Why training may end after this epoch, or None. seconds: see out_of_time."""
        patience = self._guard.patience
        if patience is not None and self._waited >= patience:
            return f"no better than {self._best:.4f} for {self._waited} validations (guard.patience={patience})"
        return self.out_of_time(seconds)

    def out_of_time(self, seconds: float) -> str | None:
        """seconds: of the run so far, those before interruptions included."""
        if self._max_hours is None or seconds < self._max_hours * 3600:
            return None
        return f"max_hours={self._max_hours:g} are over"

    def to_json(self) -> dict[str, Any]:
        return {
            "skipped": self.skipped,
            "exploded": self._exploded,
            "losses": list(self._losses),
            "best": self._best,
            "waited": self._waited,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.skipped, self._exploded = saved["skipped"], saved["exploded"]
        self._losses.extend(saved["losses"])
        self._best, self._waited = saved["best"], saved["waited"]
