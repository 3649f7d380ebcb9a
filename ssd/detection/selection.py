"""Which detections are shown and written: of some classes, from a score on that may differ by class."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssd.detection.results import shown_scores
from ssd.utils.errors import UserError, did_you_mean

OTHERS = "others"
SHOWN = 24  # characters of a value in a message: it may be an image by mistake


@dataclass(frozen=True)
class Selection:
    """thresholds: the lowest score of each class, above 1 for one that is not wanted."""

    thresholds: np.ndarray

    @classmethod
    def of(cls, threshold: Any, wanted: Sequence[str] | None, classes: Sequence[str]) -> "Selection":
        """threshold: a number, or one per class name and for `others`. wanted: names, None for all.

        classes: those of the model. Errors: UserError for a name that is none of them, or a score that is none.
        """
        by_class = threshold if isinstance(threshold, Mapping) else {OTHERS: threshold}
        named = [str(name) for name in by_class if name != OTHERS]
        for key, names in (("job.threshold", named), ("job.classes", wanted or [])):
            for name in names:
                _known(key, name, classes)
        if missing := [name for name in classes if name not in by_class and OTHERS not in by_class]:
            raise UserError(f"job.threshold says nothing of {missing[0]}; add others: 0.5")
        scores = [score(by_class.get(name, by_class.get(OTHERS)), "job.threshold") for name in classes]
        shown = [wanted is None or name in wanted for name in classes]
        return cls(np.where(shown, scores, np.inf))

    def pick(self, detections: np.ndarray) -> np.ndarray:
        """The rows of [N, 6] (class, score, corners) that are wanted, in their order."""
        return detections[shown_scores(detections) >= self.thresholds[detections[:, 0].astype(int)]]

    def describe(self, classes: Sequence[str]) -> dict[str, float]:
        """The lowest score by the name of each class that is wanted."""
        pairs = zip(classes, self.thresholds.tolist(), strict=True)
        return {name: score for name, score in pairs if np.isfinite(score)}


def _known(key: str, name: str, classes: Sequence[str]) -> None:
    if name not in classes:
        hint = did_you_mean(name, classes) or f"it knows {', '.join(classes)}"
        raise UserError(f"{key}: {name!r} is no class of this model; {hint}")


def score(value: Any, what: str) -> float:
    """Errors: UserError naming `what` for anything but a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UserError(f"{what}: {_shown(value)} is not a score, expected a number from 0 to 1")
    return float(value)


def _shown(value: Any) -> str:
    """A value of any type, in a few characters."""
    if isinstance(value, int) and abs(value) >= 10**20:  # Python writes no integer of thousands of digits
        return "an integer of more than 20 digits"
    text = reprlib.repr(value)
    return text if len(text) <= SHOWN else f"a {type(value).__name__}"
