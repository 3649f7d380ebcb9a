"""Average precision as PASCAL VOC defines it, both ways.

11-point (VOC2007): mean over recall 0, 0.1, … 1 of the best precision at that recall or beyond.
Area (VOC2010 on): area under the precision made monotonically decreasing (every point, no sampling).
The two differ by 2 to 3 points of mAP on the same detections, so both are always given and named.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ssd.evaluation.matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, Matches, join

# Multiples of 0.1 as floating point has them (0.30000000000000004 is one), like every published Python VOC07 metric:
# a class whose recall ends at 3/10 misses that point there, so it does here.
RECALL_POINTS = np.arange(11) * 0.1


def evaluate_voc(
    ground_truth: Sequence[np.ndarray], detections: Sequence[np.ndarray], num_classes: int, iou: float = 0.5
) -> dict[str, Any]:
    """Measure detections against ground truth.

    ground_truth: per image [M, 5 or 6], rows (class, xmin, ymin, xmax, ymax[, difficult]); a 7th column, crowd, is
        ignored like difficult. detections: per image [N, 6], rows (class, score, xmin, ymin, xmax, ymax), in any order.
        Same continuous units in both; class is 0-based; an image without rows is an empty array.
    iou: a detection must overlap an object at least this much (`ssd.evaluation.matching` has the full rule).

    Returns a dict (C = num_classes, arrays per class in class order):
        map_11pt, map_area      mean AP of the classes that have ground truth; nan if none has
        ap_11pt, ap_area        float64 [C]: nan for a class without (non-difficult) ground truth, 0 without detections
        precision, recall, scores   lists of C float64 arrays, one point per detection that counts, best score first
                                (recall is nan where there is nothing to recall)
        positives, true_positives, false_positives   int64 [C]; difficult ground truths are no positives
        iou, mean_iou           average IoU of the true positives: float64 [C], and over all of them; nan without any

    Raises UserError for lists of different length, wrong columns, classes out of range, numbers that are not finite.
    """
    return summarize(join(ground_truth, detections, num_classes).matches(iou))


def summarize(matches: Matches) -> dict[str, Any]:
    """Curves and average precision of matched detections; the keys are those of `evaluate_voc`."""
    num_classes = len(matches.positives)
    counted = matches.outcome != IGNORED
    label, hit = matches.label[counted], matches.outcome[counted] == TRUE_POSITIVE
    ends = np.cumsum(np.bincount(label, minlength=num_classes))[:-1]
    curves = [
        precision_recall(hits, int(positives))
        for hits, positives in zip(np.split(hit, ends), matches.positives, strict=True)
    ]
    ap_11pt = np.array([average_precision_11pt(*curve) for curve in curves])
    ap_area = np.array([average_precision_area(*curve) for curve in curves])
    for ap in (ap_11pt, ap_area):
        ap[matches.positives == 0] = 0.0
        ap[~matches.exists] = np.nan
    true = matches.outcome == TRUE_POSITIVE
    overlap = np.bincount(matches.label[true], matches.overlap[true], num_classes)
    true_positives = np.bincount(matches.label[true], minlength=num_classes)
    false = matches.label[matches.outcome == FALSE_POSITIVE]
    return {
        "map_11pt": _mean(ap_11pt),
        "map_area": _mean(ap_area),
        "ap_11pt": ap_11pt,
        "ap_area": ap_area,
        "precision": [precision for precision, _ in curves],
        "recall": [recall for _, recall in curves],
        "scores": np.split(matches.score[counted], ends),
        "positives": matches.positives,
        "true_positives": true_positives,
        "false_positives": np.bincount(false, minlength=num_classes),
        "iou": np.divide(overlap, true_positives, out=np.full(num_classes, np.nan), where=true_positives > 0),
        "mean_iou": float(matches.overlap[true].mean()) if true.any() else float("nan"),
    }


def precision_recall(hits: np.ndarray, positives: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall after each detection, from bool [D] in score order and the number of objects to find."""
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    recall = found / positives if positives else np.full(len(hits), np.nan)
    return precision, recall


def average_precision_11pt(precision: np.ndarray, recall: np.ndarray) -> float:
    """VOC2007's AP of one class from its curve (recall never falls); an empty curve gives 0."""
    first = np.searchsorted(recall, RECALL_POINTS)
    return float(np.append(_envelope(precision), 0.0)[first].mean())


def average_precision_area(precision: np.ndarray, recall: np.ndarray) -> float:
    """VOC2010's AP of one class from its curve (recall never falls); an empty curve gives 0."""
    return float(np.sum(np.diff(recall, prepend=0.0) * _envelope(precision)))


def _envelope(precision: np.ndarray) -> np.ndarray:
    """Best precision at each point of the curve or beyond it."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _mean(ap: np.ndarray) -> float:
    """Mean over the classes that have an AP; nan when none has."""
    known = ap[~np.isnan(ap)]
    return float(known.mean()) if len(known) else float("nan")
