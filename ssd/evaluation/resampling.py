"""How far the images of a split decide about a difference of mAP: a paired bootstrap over images.

Both lists of detections are measured on the same images, drawn with replacement (Efron and Tibshirani 1993, "An
Introduction to the Bootstrap", section 13: percentile intervals). Where one object is worth more than the difference,
the interval contains 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

RESAMPLINGS = 300
PERCENTILES = (2.5, 97.5)

Evaluate = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], Mapping[str, Any]]


class Interval(NamedTuple):
    low: float
    high: float


def difference_intervals(
    truth: Sequence[np.ndarray],
    pair: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    evaluate: Evaluate,
    names: Sequence[str],
) -> dict[str, Interval]:
    """95 % intervals of how much larger each number is for the first detections than for the second.

    truth, and both of the pair: one array per image. evaluate(truth, detections) gives numbers by name. The same
    resamplings at every call; those without a number (nan: no object was drawn) are left out.
    """
    rng = np.random.default_rng(0)
    differences: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(RESAMPLINGS):
        drawn = rng.integers(len(truth), size=len(truth))
        objects = [truth[image] for image in drawn]
        first, second = (evaluate(objects, [found[image] for image in drawn]) for found in pair)
        for name in names:
            differences[name].append(first[name] - second[name])
    return {name: Interval(*np.nanpercentile(values, PERCENTILES)) for name, values in differences.items()}
