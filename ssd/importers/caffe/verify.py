"""Whether a converted network answers as OpenCV does, on images."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ssd.checkpoint.model import Model, ModelSpec
from ssd.data.transforms.preprocess import preprocess
from ssd.detection.detector import Detector
from ssd.importers.caffe.convert import Converted, Options
from ssd.importers.caffe.layers import Network
from ssd.importers.caffe.parity import (
    Boxes,
    Difference,
    Reference,
    as_trained,
    compare_boxes,
    compare_outputs,
    reference_boxes,
    run_outputs,
)
from ssd.mxnet_compat import mx


@dataclass(frozen=True)
class Conversion:
    """All that a conversion started from and led to."""

    prototxt: Path
    caffemodel: Path
    network: Network
    options: Options
    converted: Converted
    spec: ModelSpec

    @property
    def own_detection(self) -> dict[str, Any]:
        """How the network itself decodes, whatever else the spec asks for."""
        heads = self.converted.heads
        return self.spec.detection | (heads.detection if heads else {})

    @property
    def own_model(self) -> Model:
        converted, spec = self.converted, replace(self.spec, detection=self.own_detection)
        return Model(spec, converted.graph, converted.arg_params, converted.aux_params)


@dataclass
class Report:
    """outputs: the largest difference over all images, by output. boxes: by image, of a detector."""

    outputs: dict[str, Difference] = field(default_factory=dict)
    boxes: dict[str, Boxes] = field(default_factory=dict)

    def wrong(self, tolerance: float) -> list[str]:
        """What differs by more than it may, as text."""
        lines = [
            f"output {name} by {difference.largest:.1e}"
            for name, difference in self.outputs.items()
            if not difference.fits(tolerance)
        ]
        return lines + [f"{boxes.unmatched} boxes of {name}" for name, boxes in self.boxes.items() if boxes.unmatched]


def verify(made: Conversion, images: Iterable[tuple[str, np.ndarray]], tolerance: float) -> Report:
    """Runs both on (name, HxWx3 uint8 RGB) images. Errors: NoReferenceError when OpenCV cannot."""
    reference = Reference(made.prototxt, made.caffemodel)
    detector = Detector(made.own_model, mx.cpu(), 1) if made.converted.heads else None
    report = Report()
    for name, image in images:
        data = preprocess([image], made.spec.input)
        trained = as_trained(data, made.options)
        names = list(made.converted.outputs)
        theirs = reference.run(trained, names)
        for difference in compare_outputs(names, run_outputs(made.converted, data), theirs):
            before = report.outputs.get(difference.output)
            if before is None or difference.largest >= before.largest:
                report.outputs[difference.output] = difference
        if detector:
            wanted = reference_boxes(reference, trained, made.network, made.converted, made.own_detection)
            report.boxes[name] = compare_boxes(detector.predict_batch(data)[0], wanted, tolerance)
    return report


def noise_image(height: int, width: int) -> np.ndarray:
    """HxWx3 uint8 RGB: blobs of color, for want of a photograph."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
