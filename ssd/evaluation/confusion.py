"""Which class is taken for which: every object and every detection above a score threshold, paired or left alone."""

from dataclasses import dataclass

import numpy as np

from ssd.evaluation.matching import Joined, pairs
from ssd.evaluation.table import Table
from ssd.ops.boxes import iou_pairs


@dataclass(frozen=True)
class Confusion:
    """counts: int64 [C + 1, C + 1]; row = class of the object, column = class it was detected as. The last row holds
    detections of what is no object, the last column objects that were missed; [C, C] is 0.

    found: per image, bool [M]: the object was detected as what it is; difficult: it need not be (crowds included).
    right: per image, bool [N]: the detection is such a one; ignored: it counts neither way (score below the threshold,
    or on a difficult object).
    """

    counts: np.ndarray
    found: list[np.ndarray]
    difficult: list[np.ndarray]
    right: list[np.ndarray]
    ignored: list[np.ndarray]


def confusion(joined: Joined, thresholds: np.ndarray, iou: float) -> Confusion:
    """Pairs objects and detections one to one, whatever their classes.

    Per image, best score first, a detection takes the free object that it overlaps most, if IoU >= iou. One whose best
    is a difficult object or a crowd is ignored; such objects are never missed.
    thresholds: float64 [C], lowest score that counts for each class.
    """
    truth, found, ignored, num_classes = joined.truth, joined.found, joined.ignored, joined.num_classes
    low = found.values[:, 0] < thresholds[found.label]
    kept = np.flatnonzero(~low)
    kept = kept[np.argsort(-found.values[kept, 0], kind="stable")]
    chosen = np.full(len(low), -1, np.int64)
    chosen[kept] = _assign(*_overlapping(truth, found.take(kept), iou), len(kept), ignored)

    skipped = low.copy()
    skipped[chosen >= 0] |= ignored[chosen[chosen >= 0]]
    paired = np.flatnonzero(~skipped & (chosen >= 0))
    missed = ~ignored
    missed[chosen[paired]] = False
    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    np.add.at(counts, (truth.label[chosen[paired]], found.label[paired]), 1)
    np.add.at(counts[num_classes], found.label[~skipped & (chosen < 0)], 1)
    np.add.at(counts[:, num_classes], truth.label[missed], 1)

    right = np.zeros(len(low), bool)
    right[paired] = truth.label[chosen[paired]] == found.label[paired]
    seen = np.zeros(len(truth.label), bool)
    seen[chosen[right]] = True
    of_objects = [_per_image(mask, truth, joined.images) for mask in (seen, ignored)]
    of_detections = [_per_image(mask, found, joined.images) for mask in (right, skipped)]
    return Confusion(counts, *of_objects, *of_detections)


def _per_image(mask: np.ndarray, table: Table, images: int) -> list[np.ndarray]:
    return np.split(mask, np.cumsum(table.per_image(images))[:-1]) if images else []


def _overlapping(truth: Table, found: Table, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """(rows of detections, rows of objects) of all pairs that overlap enough: by detection, most overlapping first."""
    rows, objects, overlaps = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for row, candidate in pairs(truth, found, any_class=True):
        value = iou_pairs(found.values[row, 1:5], truth.values[candidate, :4])
        near = value >= max(iou, 1e-9)
        rows.append(row[near])
        objects.append(candidate[near])
        overlaps.append(value[near])
    row, candidate, value = (np.concatenate(parts) for parts in (rows, objects, overlaps))
    order = np.lexsort((candidate, -value, row))
    return row[order], candidate[order]


def _assign(row: np.ndarray, candidate: np.ndarray, count: int, ignored: np.ndarray) -> np.ndarray:
    """Object of each of `count` detections (-1: none), the first in the list that is still free; ignored objects are
    never used up."""
    chosen = np.full(count, -1, np.int64)
    taken = np.zeros(len(ignored), bool)
    for detection, object_row in zip(row.tolist(), candidate.tolist(), strict=True):
        if chosen[detection] < 0 and not taken[object_row]:
            chosen[detection] = object_row
            taken[object_row] = not ignored[object_row]
    return chosen
