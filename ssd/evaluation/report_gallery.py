"""Images of a split with ground truth beside detections, the worst first, ready for a page."""

from collections.abc import Sequence

import cv2
import numpy as np

from ssd.data.images import decode, encode
from ssd.detection.draw import MISTAKE, NEITHER, TRUTH, Color, draw, draw_ground_truth
from ssd.evaluation.analysis import Analysis
from ssd.evaluation.measure import EvalResult
from ssd.report.html import embedded, number, text

SIDE = 560  # longest side of an embedded image, pixels
QUALITY = 82  # of its JPEG


def gallery(measured: EvalResult, analysis: Analysis, count: int) -> str:
    """The `count` worst images as figures; how they are ranked: `Analysis.worst_first`."""
    scores, counts = analysis.image_scores(), analysis.image_counts()
    figures = []
    for place, index in enumerate(analysis.worst_first()[:count].tolist(), start=1):
        images = "".join(_pair(measured, analysis, index))
        right, wrong, missed = counts[index].tolist()
        sample = measured.samples[index]
        figures.append(
            f"<figure><div>{images}</div><figcaption>{place}. <b>{text(sample.path.name)}</b> F1 "
            f'{number(scores[index], 2)}: <span class="good">{right} found</span>, <span class="bad">{missed} missed, '
            f"{wrong} false</span></figcaption></figure>"
        )
    return f'<div class="gallery">{"".join(figures)}</div>'


def _pair(measured: EvalResult, analysis: Analysis, index: int) -> list[str]:
    """Ground truth and detections of one image as <img> elements."""
    sample, pairs = measured.samples[index], analysis.confusion
    image = decode(sample.read(), str(sample.path))
    factor = min(1.0, SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else image
    boxes, found = sample.ground_truth()[:, :6].copy(), measured.detections[index].copy()
    boxes[:, 1:5] *= factor
    found[:, 2:6] *= factor

    shown = _at_threshold(found, analysis.thresholds.scores)
    left = draw_ground_truth(small, boxes, measured.classes, _colors(pairs.found[index], pairs.difficult[index]))
    marks = _colors(pairs.right[index][shown], pairs.ignored[index][shown])
    right = draw(small, found[shown], measured.classes, 0.0, marks)
    return [_embedded(left, f"ground truth of {sample.id}"), _embedded(right, f"detections in {sample.id}")]


def _at_threshold(found: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return found[:, 1] >= thresholds[found[:, 0].astype(int)]


def _colors(good: np.ndarray, neither: np.ndarray) -> Sequence[Color]:
    return [NEITHER if skip else TRUTH if fine else MISTAKE for fine, skip in zip(good, neither, strict=True)]


def _embedded(image: np.ndarray, alternative: str) -> str:
    data = encode(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return embedded(data, alternative, (image.shape[1], image.shape[0]))
