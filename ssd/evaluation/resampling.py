"""How far the images of a split decide about a difference of mAP: a paired bootstrap over images.

Both lists of detections are measured on the same images, drawn with replacement (Efron and Tibshirani 1993, "An
Introduction to the Bootstrap", section 13: percentile intervals). Where one object is worth more than the difference,
the interval contains 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssd.evaluation.matching import Joined

RESAMPLINGS = 300
PERCENTILES = (2.5, 97.5)

Evaluate = Callable[[Joined], Mapping[str, Any]]


class Interval(NamedTuple):
    low: float
    high: float


def difference_intervals(pair: tuple[Joined, Joined], evaluate: Evaluate, names: Sequence[str]) -> dict[str, Interval]:
    """95 % intervals of how much larger each number is for the first detections than for the second.

    pair: both of the same images. evaluate: gives numbers by name. The same resamplings at every call; those without a
    number (nan: no object was drawn) are left out.
    """
    rng = np.random.default_rng(0)
    differences: dict[str, list[float]] = {name: [] for name in names}
    images = pair[0].images
    for _ in range(RESAMPLINGS):
        drawn = rng.integers(images, size=images)
        first, second = (evaluate(joined.drawn(drawn)) for joined in pair)
        for name in names:
            differences[name].append(first[name] - second[name])
    return {name: Interval(*np.nanpercentile(values, PERCENTILES)) for name, values in differences.items()}
