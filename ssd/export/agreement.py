"""Whether an exported model answers what the trained one does, on real images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ssd.checkpoint.model import Model
from ssd.config.parts import InputSpec
from ssd.data.base import Size
from ssd.data.transforms.resize import FACTORS
from ssd.detection.detector import Detector
from ssd.detection.onnx_file import FOUND, IMAGE, OnnxModel, open_whole
from ssd.detection.open_model import open_model
from ssd.ops.boxes import DecodeParams, iou_matrix

LIMIT = 1e-4  # largest difference before suppression, of probabilities and of corners in shares of the input
NEAR = 2 * LIMIT  # of two rows that are the same detection: scores, and corners in shares of the image
PIXELS = 0.01  # of two rows of the same network: corners
MAX_PIXELS = 20_000_000  # of the images that outputs are compared on
MARGIN = 1e-3  # IoU this close to detection.nms_threshold may fall either way
CONFIDENT = 0.5  # score of what a coarser model must find too


@dataclass(frozen=True)
class Agreement:
    """before: largest difference before suppression. boxes: detections of the trained model. differing: detections of
    either that the other lacks, borderline: how many more of these, on a limit of suppression, fell the other way.
    confident, found: detections from CONFIDENT on, and how many the exported model has with IoU 0.5 or more."""

    images: int
    before: float
    boxes: int
    differing: int
    borderline: int
    confident: int
    found: int

    @property
    def exact(self) -> bool:
        return self.before <= LIMIT and not self.differing


@dataclass(frozen=True)
class ModelUnderTest:
    """A model as detectors. opened: says cls_prob and boxes before suppression. deciding: those whose boxes count."""

    opened: Detector
    deciding: list[Detector]

    @classmethod
    def of_model(cls, model: Model, context: Any) -> "ModelUnderTest":
        opened = replace(model, spec=replace(model.spec, compat=None))
        return cls(Detector(opened, context, 1), [Detector(model, context, 1)])

    @classmethod
    def of_file(cls, path: Path, context: Any) -> "ModelUnderTest":
        """With the suppression of its own graph, and with the detector's where that would be used."""
        opened, finished = (Detector(open_model(path, end), context, 1, str(path)) for end in (False, True))
        return cls(opened, [finished] if opened.spec.compat else [opened, finished])


def agreement(trained: ModelUnderTest, exported: ModelUnderTest, images: Sequence[np.ndarray]) -> Agreement:
    """Compares image by image."""
    before, boxes, confident, found = 0.0, 0, 0, 0
    differing, borderline = 0, 0
    params = DecodeParams(**trained.opened.spec.detection)
    for image in images:
        before = max(before, _difference(trained.opened, exported.opened, image))
        expected = trained.deciding[0].predict([image])[0]
        boxes += len(expected)
        for detector in exported.deciding:
            rows = detector.predict([image])[0]
            counts = compare_rows(expected, rows, params, NEAR * max(image.shape[:2]))
            differing, borderline = differing + counts[0], borderline + counts[1]
        sure = expected[expected[:, 1] >= CONFIDENT]
        confident += len(sure)
        found += int(((iou_matrix(sure[:, 2:], rows[:, 2:]) >= 0.5) & _same_class(sure, rows)).any(axis=1).sum())
    return Agreement(len(images), before, boxes, differing, borderline, confident, found)


def resized(images: Sequence[np.ndarray], spec: InputSpec) -> list[np.ndarray]:
    """Some of the images in sizes that take every way onto the input: averaged by each factor, with and without pixels
    left over, just not averaged, narrow, wide, and of one pixel."""
    sizes = [Size(factor * spec.width, factor * spec.height) for factor in FACTORS]
    sizes += [Size(factor * spec.width + factor - 1, factor * spec.height + 1) for factor in FACTORS]
    sizes += [Size(2 * spec.width - 1, 2 * spec.height), Size(spec.width // 2 + 1, 3 * spec.height + 1)]
    sizes += [Size(5 * spec.width + 3, spec.height // 4 + 1), Size(1, 1)]
    kept = [size for size in sizes if size.width * size.height <= MAX_PIXELS]
    return [cv2.resize(images[number % len(images)], size) for number, size in enumerate(kept)] if images else []


def compare_whole(path: Path, finished: Detector, images: Sequence[np.ndarray]) -> str | None:
    """Runs an ONNX file that takes images of any size as anyone would, with ONNX Runtime alone; what is wrong with it,
    compared with the detector of the same file, which resizes by itself. None for other files, and where all is right.
    """
    model = open_model(path)
    if not isinstance(model, OnnxModel) or not model.any_size:
        return None
    session, params = open_whole(path), DecodeParams(**model.spec.detection)
    for image in images:
        (rows,) = session.run([FOUND], {IMAGE: image[None]})[0]
        rows = rows[rows[:, 0] >= 0]
        differing, _ = compare_rows(finished.predict([image])[0], rows, params, PIXELS)
        if differing:
            size = f"{image.shape[1]}x{image.shape[0]}"
            return f"{differing} boxes of an image of {size} pixels differ from those of an image resized by OpenCV"
    return None


def compare_rows(expected: np.ndarray, rows: np.ndarray, params: DecodeParams, pixels: float) -> tuple[int, int]:
    """Detections [N, 6] and [M, 6] in pixels of an image: (differing, borderline), see Agreement.

    Rows are the same where the class is, scores are NEAR and corners lie within so many pixels; their order does not
    count, as that of equal scores is open.
    """
    corners = np.abs(expected[:, None, 2:] - rows[None, :, 2:]).max(axis=2, initial=0) <= pixels
    scores = np.abs(expected[:, None, 1] - rows[None, :, 1]) <= NEAR
    same = _same_class(expected, rows) & scores & corners
    alone, stray = expected[~same.any(axis=1)], rows[~same.any(axis=0)]
    excused = _borderline(alone, rows, params) + _borderline(stray, expected, params)
    return len(alone) + len(stray) - excused, excused


def _borderline(rows: np.ndarray, others: np.ndarray, params: DecodeParams) -> int:
    """How many rows the other list may lack because a limit was met by a hair: score, number, or IoU."""
    lowest = others[-1, 1] if len(others) >= params.keep else params.score
    by_score = rows[:, 1] <= lowest + NEAR
    overlap = np.abs(iou_matrix(rows[:, 2:], others[:, 2:]) - params.nms) <= MARGIN
    better = others[None, :, 1] >= rows[:, None, 1] - NEAR
    return int((by_score | (overlap & better & _same_class(rows, others)).any(axis=1)).sum())


def _same_class(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first[:, None, 0] == second[None, :, 0]


def _difference(trained: Detector, exported: Detector, image: np.ndarray) -> float:
    """Largest, of all probabilities and corners."""
    pairs = zip(
        trained.forward(trained.preprocess([image])), exported.forward(exported.preprocess([image])), strict=True
    )
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
