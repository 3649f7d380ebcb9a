"""Which detections find an object, by the rule of the PASCAL VOC devkit, for all images and classes at once.

Per image and class, best score first, a detection is compared with the ground truth it overlaps most (whether that
one is difficult or already found plays no part in the choice):
    IoU below the threshold           -> false positive
    the ground truth is difficult     -> ignored: counts neither way
    nobody better scored took it      -> true positive
    otherwise (a duplicate)           -> false positive
The threshold itself is enough (IoU >= threshold), as in the devkit and in COCO.

Because the choice does not depend on what was matched before, "greedy" needs no loop over detections: among those that
chose the same ground truth, the first in score order finds it.
Ties are settled the devkit's way: equal scores keep the order they came in (image by image, row by row), of equally
overlapping ground truths the first row wins.
"""

from dataclasses import dataclass

import numpy as np

from ssd.evaluation.boxes import iou_pairs
from ssd.evaluation.table import Table

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2


@dataclass(frozen=True)
class Matches:
    """Detections grouped by class, best score first within a class.

    label: int64 [D]; score: float64 [D]; outcome: int8 [D], FALSE_POSITIVE, TRUE_POSITIVE or IGNORED.
    positives: int64 [C], ground truths to be found per class (neither difficult nor crowd).
    """

    label: np.ndarray
    score: np.ndarray
    outcome: np.ndarray
    positives: np.ndarray


def match_voc(ground_truth: Table, detections: Table, num_classes: int, iou: float) -> Matches:
    """Match the tables of `ssd.evaluation.table` at one IoU threshold. Crowd boxes are ignored like difficult ones."""
    order = _by_class_and_score(detections, num_classes)
    found = Table(detections.image[order], detections.label[order], detections.values[order])
    chosen, overlap = _most_overlapping(ground_truth, found, num_classes)

    ignored = (ground_truth.values[:, 4:6] > 0).any(axis=1)
    hits = np.flatnonzero((chosen >= 0) & (overlap >= iou))
    outcome = np.full(len(order), FALSE_POSITIVE, np.int8)
    _, first = np.unique(chosen[hits], return_index=True)
    outcome[hits[first]] = TRUE_POSITIVE
    outcome[hits[ignored[chosen[hits]]]] = IGNORED
    positives = np.bincount(ground_truth.label[~ignored], minlength=num_classes)
    return Matches(found.label, found.values[:, 0], outcome, positives)


def _by_class_and_score(detections: Table, num_classes: int) -> np.ndarray:
    """Order that groups rows by class, best score first; both sorts are stable, so ties stay as they came."""
    by_score = np.argsort(-detections.values[:, 0], kind="stable")
    # numpy sorts 16-bit integers by radix, far quicker than 64-bit ones.
    small = np.int16 if num_classes < 2**15 else np.int64
    return by_score[np.argsort(detections.label[by_score].astype(small), kind="stable")]


def _most_overlapping(ground_truth: Table, found: Table, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Row of the ground truth of the same image and class with the highest IoU (-1: there is none), and that IoU.

    Visits the first ground truth of every image and class together, then the second, …: memory stays at one number per
    detection however crowded an image is.
    """
    chosen = np.full(len(found.label), -1, np.int64)
    overlap = np.full(len(found.label), -1.0)
    if not len(ground_truth.label):
        return chosen, overlap
    key = ground_truth.image * num_classes + ground_truth.label
    by_key = np.argsort(key, kind="stable")
    groups, start, size = np.unique(key[by_key], return_index=True, return_counts=True)

    wanted = found.image * num_classes + found.label
    group = np.minimum(np.searchsorted(groups, wanted), len(groups) - 1)
    active = np.flatnonzero(groups[group] == wanted)
    boxes, left, row = found.values[active, 1:5], size[group[active]], start[group[active]]
    for step in range(int(size.max())):
        more = left > step
        active, boxes, left, row = active[more], boxes[more], left[more], row[more]
        candidate = by_key[row + step]
        value = iou_pairs(boxes, ground_truth.values[candidate, :4])
        better = value > overlap[active]
        overlap[active[better]] = value[better]
        chosen[active[better]] = candidate[better]
    return chosen, overlap
