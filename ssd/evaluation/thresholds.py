"""The score from which detections of a class count: where it comes from, and how it is written to be copied."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import numpy as np

from ssd.evaluation.curves import best_f1

FIXED = "metric.threshold"  # the source of a threshold that the configuration sets


@dataclass(frozen=True)
class Thresholds:
    """scores: float64 [C], a detection of class c counts from scores[c] on. source: the split on which F1 is highest at
    them, or FIXED."""

    scores: np.ndarray
    source: str

    def optimistic(self, split: str) -> bool:
        """Whether rates on this split stand on thresholds that were chosen to make them high."""
        return self.source == split

    def describe(self, split: str) -> str:
        """Where they come from, as reports of this split say it."""
        if self.source == FIXED:
            return f"{FIXED}={exact(float(self.scores[0]))}" if len(self.scores) else FIXED
        chosen = f"the score of its best F1 on {self.source}"
        return f"{chosen}, this very split: optimistic" if self.optimistic(split) else chosen


def choose_thresholds(voc: Mapping[str, Any], split: str, fixed: float | None) -> Thresholds:
    """`fixed` for all classes, or by default each class's score of its best F1 in `voc`, evaluate_voc's result on this
    split; classes that nothing was found of have the mean of the others'."""
    if fixed is not None:
        return Thresholds(np.full(len(voc["scores"]), float(fixed)), FIXED)
    best, _ = best_f1(voc)
    known = best[~np.isnan(best)]
    return Thresholds(np.where(np.isnan(best), known.mean() if len(known) else 0.5, best), split)


def exact(value: float) -> str:
    """A score as text that reads back as the same number: rounded up it would drop the detection it stands on.

    The digits of a float64, also for scores that were float32: 0.7 of the latter is 0.699999988079071, and the short
    "0.7" would be more than it.
    """
    return repr(float(value))


def rounded_down(value: float, digits: int) -> str:
    """A score with so many decimals, never more than it is; a dash for what does not exist."""
    if value != value:
        return "–"
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR):.{digits}f}"
