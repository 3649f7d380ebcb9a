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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ssd.evaluation.table import Table, check_same_images, detection_table, ground_truth_table
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


@dataclass(frozen=True)
class Joined:
    """Ground truth and detections of the same images, joined and compared once: what every metric is computed from.

    truth, found: their tables. ignored: bool [M], the ground truths that need not be found, difficult ones and crowds.
    object: int64 [D], row of the ground truth of its image and class that each detection overlaps most (-1: there is
    none); overlap: float64 [D], that IoU (-1).
    """

    truth: Table
    found: Table
    images: int
    num_classes: int
    ignored: np.ndarray
    object: np.ndarray
    overlap: np.ndarray
    _matches: dict[float, Matches] = field(default_factory=dict, repr=False, compare=False)

    def matches(self, iou: float) -> Matches:
        """By the rule above at one IoU threshold; crowds are ignored like difficult objects."""
        if iou not in self._matches:
            self._matches[iou] = self._match(iou)
        return self._matches[iou]

    def _match(self, iou: float) -> Matches:
        score = self.found.values[:, 0]
        hits = np.flatnonzero((self.object >= 0) & (self.overlap >= iou))
        hits = hits[np.argsort(-score[hits], kind="stable")]
        positives = np.bincount(self.truth.label[~self.ignored], minlength=self.num_classes)
        return self.matched(outcomes(self.object, hits, self.ignored), positives, positives > 0)

    def matched(self, outcome: np.ndarray, positives: np.ndarray, exists: np.ndarray) -> Matches:
        """Matches of these outcomes, int8 [D] in the order of the table; the rest as in `Matches`."""
        rows, score = np.arange(len(outcome)), self.found.values[:, 0]
        every = Matches(self.found.label, score, outcome, rows, self.object, self.overlap, positives, exists)
        return every.regrouped()

    def drawn(self, images: np.ndarray) -> "Joined":
        """Of the images of these numbers, int64 [K] in any order and repeated, as if they had been joined so."""
        truth, objects = self.truth.drawn(images, self.images)
        found, rows = self.found.drawn(images, self.images)
        before, now = (np.cumsum(counts) - counts for counts in (
            self.truth.per_image(self.images), truth.per_image(len(images))))  # fmt: skip
        moved = (now - before[images])[found.image]
        chosen = self.object[rows]
        chosen = np.where(chosen >= 0, chosen + moved, -1)
        return Joined(truth, found, len(images), self.num_classes, self.ignored[objects], chosen, self.overlap[rows])


def join(ground_truth: Sequence[np.ndarray], detections: Sequence[np.ndarray], num_classes: int) -> Joined:
    """Join one array per image of each, as `evaluate_voc` takes them; it has the errors, too."""
    check_same_images(ground_truth, detections)
    truth, found = ground_truth_table(ground_truth, num_classes), detection_table(detections, num_classes)
    ignored = (truth.values[:, 4:6] > 0).any(axis=1)
    return Joined(truth, found, len(ground_truth), num_classes, ignored, *most_overlapping(truth, found))


def outcomes(chosen: np.ndarray, hits: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """int8 [D]. chosen: row of the ground truth of each detection; hits: the detections that overlap theirs enough, the
    first in line first; ignored: bool [M], which ground truths count neither way."""
    outcome = np.full(len(chosen), FALSE_POSITIVE, np.int8)
    _, first = np.unique(chosen[hits], return_index=True)
    outcome[hits[first]] = TRUE_POSITIVE
    outcome[hits[ignored[chosen[hits]]]] = IGNORED
    return outcome


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
