"""Measuring a detector on a split: the same code during training and in job=eval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ssd.data.base import Sample
from ssd.data.images import decode
from ssd.detection.detector import Detector
from ssd.detection.draw import side_by_side
from ssd.detection.predict import predict_samples
from ssd.evaluation.mxnet_ssd import evaluate_mxnet_ssd
from ssd.evaluation.voc import evaluate_voc
from ssd.tracking.events import Events


class Rules(Protocol):
    """What measuring must know of cfg.metric. compat: None, or "mxnet_ssd" for the original's mAP."""

    @property
    def iou(self) -> float: ...
    @property
    def compat(self) -> str | None: ...


@dataclass(frozen=True)
class Measured:
    """Detections of a split and what they are worth."""

    samples: Sequence[Sample]
    detections: list[np.ndarray]
    voc: dict[str, Any]
    classes: Sequence[str]

    @property
    def truth(self) -> list[np.ndarray]:
        return ground_truth(self.samples)

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

    def tell(self, events: Events, split: str, step: int, pictures: int) -> None:
        """Curves of every class, and the first `pictures` samples with ground truth beside detections, named after the
        split they are of."""
        for index, name in enumerate(self.classes):
            precision, recall, scores = (self.voc[key][index] for key in ("precision", "recall", "scores"))
            events.curve(f"{split}/pr/{name}", precision, recall, scores, int(self.voc["positives"][index]), step)
        for index, sample in enumerate(self.samples[:pictures]):
            image = decode(sample.read(), str(sample.path))
            found = self.detections[index]
            shown = side_by_side(image, sample.boxes, found, self.classes, 0.5)
            events.image(f"{split}/sample_{index + 1}", shown, step)


def measure(
    detector: Detector, samples: Sequence[Sample], rules: Rules, done: Callable[[int], None] | None = None
) -> Measured:
    """Runs the detector over the samples. done: told the number of finished samples.

    Errors: UserError for an image that cannot be read.
    """
    detections = predict_samples(detector, samples, done)
    voc = by_rules(rules, len(detector.classes))(ground_truth(samples), detections)
    return Measured(samples, detections, voc, detector.classes)


def by_rules(rules: Rules, num_classes: int) -> Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], dict[str, Any]]:
    """The metric that cfg.metric asks for: (ground truth, detections), see evaluate_voc, to its numbers."""
    evaluate = evaluate_mxnet_ssd if rules.compat else evaluate_voc
    return lambda truth, detections: evaluate(truth, detections, num_classes, rules.iou)


def ground_truth(samples: Sequence[Sample]) -> list[np.ndarray]:
    """Of each sample, as the metrics take it."""
    return [sample.ground_truth() for sample in samples]
