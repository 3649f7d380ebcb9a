"""Measuring a detector on a split: the same code during training and in job=eval; and how far the images of the split
decide about a difference of mAP, by a paired bootstrap over images.

Both lists of detections are measured on the same images, drawn with replacement (Efron and Tibshirani 1993, "An
Introduction to the Bootstrap", section 13: percentile intervals). Where one object is worth more than the difference,
the interval contains 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ssd.data.base import Sample
from ssd.data.images import decode
from ssd.detection.detector import Detector, predict_samples
from ssd.detection.draw import side_by_side
from ssd.evaluation.matching import Joined, join
from ssd.evaluation.mxnet_ssd import match_mxnet_ssd
from ssd.evaluation.voc import summarize
from ssd.tracking.events import Events


class Rules(Protocol):
    """What measuring must know of cfg.metric. compat: None, or "mxnet_ssd" for the original's mAP."""

    @property
    def iou(self) -> float: ...
    @property
    def compat(self) -> str | None: ...


@dataclass(frozen=True)
class EvalResult:
    """Detections of a split and what they are worth. joined: with the ground truth; voc: as `evaluate_voc` gives it."""

    samples: Sequence[Sample]
    detections: list[np.ndarray]
    joined: Joined
    voc: dict[str, Any]
    classes: Sequence[str]

    @classmethod
    def of(
        cls, samples: Sequence[Sample], detections: list[np.ndarray], classes: Sequence[str], rules: Rules
    ) -> "EvalResult":
        """Of detections [N, 6] per sample."""
        joined = join([sample.ground_truth() for sample in samples], detections, len(classes))
        return cls(samples, detections, joined, by_rules(joined, rules), classes)

    @property
    def annotated(self) -> list[np.ndarray] | None:
        """Sample.annotated of all images; None unless all have it."""
        rows = [sample.annotated for sample in self.samples if sample.annotated is not None]
        return rows if len(rows) == len(self.samples) else None

    def values(self) -> dict[str, float]:
        """Flat numbers: map_11pt, map_area, ap_11pt/<class>, ap_area/<class>; nan for a class without ground truth."""
        numbers = {name: float(self.voc[name]) for name in ("map_11pt", "map_area")}
        for kind in ("ap_11pt", "ap_area"):
            numbers |= {f"{kind}/{name}": float(ap) for name, ap in zip(self.classes, self.voc[kind], strict=True)}
        return numbers

    def log_to(self, events: Events, split: str, step: int, images: int) -> None:
        """Curves of every class, and the first `images` samples with ground truth beside detections, named after the
        split they are of."""
        for index, name in enumerate(self.classes):
            precision, recall, scores = (self.voc[key][index] for key in ("precision", "recall", "scores"))
            events.curve(f"{split}/pr/{name}", precision, recall, scores, int(self.voc["positives"][index]), step)
        for index, sample in enumerate(self.samples[:images]):
            image = decode(sample.read(), str(sample.path))
            found = self.detections[index]
            shown = side_by_side(image, sample.boxes, found, self.classes, 0.5)
            events.image(f"{split}/sample_{index + 1}", shown, step)


def evaluate(
    detector: Detector, samples: Sequence[Sample], rules: Rules, done: Callable[[int], None] | None = None
) -> EvalResult:
    """Runs the detector over the samples. done: called with the number of finished samples.

    Errors: UserError for an image that cannot be read.
    """
    return EvalResult.of(samples, predict_samples(detector, samples, done), detector.classes, rules)


def by_rules(joined: Joined, rules: Rules) -> dict[str, Any]:
    """Numbers of the metric that cfg.metric asks for; the keys are those of `evaluate_voc`."""
    return summarize(match_mxnet_ssd(joined, rules.iou) if rules.compat else joined.matches(rules.iou))


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
