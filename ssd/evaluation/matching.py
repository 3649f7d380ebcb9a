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

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ssd.evaluation.table import Table
from ssd.ops.boxes import iou_pairs

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2


@dataclass(frozen=True)
class Matches:
    """Detections grouped by class, best score first within a class.

    label: int64 [D]; score: float64 [D]; outcome: int8 [D], FALSE_POSITIVE, TRUE_POSITIVE or IGNORED.
    row: int64 [D], where the detection is in its table. object: int64 [D], row of the ground truth of its class that it
    overlaps most (-1: there is none); overlap: float64 [D], that IoU (-1).
    positives: int64 [C], ground truths to be found per class (neither difficult nor crowd).
    exists: bool [C], the classes that have an average precision and enter the mean.
    """

    label: np.ndarray
    score: np.ndarray
    outcome: np.ndarray
    row: np.ndarray
    object: np.ndarray
    overlap: np.ndarray
    positives: np.ndarray
    exists: np.ndarray

    def regrouped(self) -> "Matches":
        """The same detections, grouped by class and sorted by score."""
        order = by_class_and_score(self.label, self.score, len(self.positives))
        names = ("label", "score", "outcome", "row", "object", "overlap")
        return replace(self, **{name: getattr(self, name)[order] for name in names})


def match_voc(ground_truth: Table, detections: Table, num_classes: int, iou: float) -> Matches:
    """Match the tables of `ssd.evaluation.table` at one IoU threshold. Crowd boxes are ignored like difficult ones."""
    chosen, overlap = most_overlapping(ground_truth, detections)
    score = detections.values[:, 0]
    hits = np.flatnonzero((chosen >= 0) & (overlap >= iou))
    hits = hits[np.argsort(-score[hits], kind="stable")]
    ignored = is_ignored(ground_truth)
    positives = np.bincount(ground_truth.label[~ignored], minlength=num_classes)
    outcome = outcomes(chosen, hits, ignored)
    rows = np.arange(len(outcome))
    return Matches(detections.label, score, outcome, rows, chosen, overlap, positives, positives > 0).regrouped()


def outcomes(chosen: np.ndarray, hits: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """int8 [D]. chosen: row of the ground truth of each detection; hits: the detections that overlap theirs enough, the
    first in line first; ignored: bool [M], which ground truths count neither way."""
    outcome = np.full(len(chosen), FALSE_POSITIVE, np.int8)
    _, first = np.unique(chosen[hits], return_index=True)
    outcome[hits[first]] = TRUE_POSITIVE
    outcome[hits[ignored[chosen[hits]]]] = IGNORED
    return outcome


def is_ignored(ground_truth: Table) -> np.ndarray:
    """Mask [M] of the ground truths that need not be found: difficult ones and crowds."""
    return (ground_truth.values[:, 4:6] > 0).any(axis=1)


def by_class_and_score(label: np.ndarray, score: np.ndarray, num_classes: int) -> np.ndarray:
    """Order that groups rows by class, best score first; both sorts are stable, so ties stay as they came."""
    by_score = np.argsort(-score, kind="stable")
    # numpy sorts 16-bit integers by radix, far quicker than 64-bit ones.
    small = np.int16 if num_classes < 2**15 else np.int64
    return by_score[np.argsort(label[by_score].astype(small), kind="stable")]


def most_overlapping(ground_truth: Table, found: Table, other_class: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """For each detection the row of the ground truth of its image and class (or of any *other* class) with the highest
    IoU (-1: there is none), and that IoU: int64 [D], float64 [D].

    Visits the first ground truth of every image and class together, then the second, …: memory stays at one number per
    detection however crowded an image is.
    """
    chosen = np.full(len(found.label), -1, np.int64)
    overlap = np.full(len(found.label), -1.0)
    for rows, candidate in pairs(ground_truth, found, any_class=other_class):
        value = iou_pairs(found.values[rows, 1:5], ground_truth.values[candidate, :4])
        if other_class:
            value[found.label[rows] == ground_truth.label[candidate]] = -1
        better = value > overlap[rows]
        overlap[rows[better]] = value[better]
        chosen[rows[better]] = candidate[better]
    return chosen, overlap


def pairs(ground_truth: Table, found: Table, any_class: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every detection with every ground truth of its image (and class, unless any_class), as (rows of detections, rows
    of ground truths) of equal length; no detection twice in one step."""
    if not len(ground_truth.label):
        return
    classes = 1 if any_class else int(max(ground_truth.label.max(), found.label.max(initial=0))) + 1
    key, wanted = (table.image * classes + (0 if any_class else table.label) for table in (ground_truth, found))
    by_key = np.argsort(key, kind="stable")
    groups, start, size = np.unique(key[by_key], return_index=True, return_counts=True)
    group = np.minimum(np.searchsorted(groups, wanted), len(groups) - 1)
    rows = np.flatnonzero(groups[group] == wanted)
    left, first = size[group[rows]], start[group[rows]]
    for step in range(int(size.max())):
        more = left > step
        rows, left, first = rows[more], left[more], first[more]
        yield rows, by_key[first + step]
