"""What can be wrong with the boxes of one image beyond what the readers refuse."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ssd.data.base import Sample
from ssd.ops.boxes import iou_matrix

SAME = 0.98  # IoU from which two boxes are taken for one
MOST_COMPARED = 2000  # objects of an image; the table of all pairs of more would fill the memory


@dataclass(frozen=True)
class Remark:
    """A warning. object: position of the box in the sample, from 1."""

    kind: str
    object: int
    what: str


@dataclass(frozen=True)
class Input:
    """The network's input: its sides, the shortest side of a box there that is no remark, in pixels, and whether
    images keep their proportions in it (resize_mode "fit")."""

    width: int
    height: int
    small: float
    fitted: bool = False


def remarks(sample: Sample, classes: Sequence[str], target: Input) -> Iterator[Remark]:
    """Everything about the boxes of one sample, boxes [N, 6] as ssd.data.base.Sample has them, that is no error."""
    if not len(sample.boxes):
        return
    corners = sample.boxes[:, 1:5].astype(np.float64)
    yield from _pairs(sample, corners, classes)
    scale = np.array([target.width / sample.width, target.height / sample.height])
    sides = (corners[:, 2:] - corners[:, :2]) * (scale.min() if target.fitted else scale)
    tiny = np.flatnonzero(sides.min(axis=1) < target.small)
    if len(tiny):
        width, height = sides[tiny[sides[tiny].min(axis=1).argmin()]]
        what = f"{len(tiny)} of {len(sides)} boxes, down to {width:.1f}x{height:.1f} pixels"
        yield Remark("small", int(tiny[0]) + 1, f"{what} at {target.width}x{target.height}")


def _pairs(sample: Sample, corners: np.ndarray, classes: Sequence[str]) -> Iterator[Remark]:
    """Boxes that coincide: of one class a slip, of two a contradiction. Listed for the later one."""
    corners, labels = corners[:MOST_COMPARED], sample.boxes[:MOST_COMPARED, 0].astype(int)
    first, second = np.nonzero(np.triu(iou_matrix(corners, corners) >= SAME, k=1))
    for later in np.unique(second):
        earlier = first[second == later]
        alike = earlier[labels[earlier] == labels[later]]
        name = classes[labels[later]]
        if len(alike):
            yield Remark("duplicate", int(later) + 1, f"{name}, the same box as object {alike[0] + 1}")
        else:
            other = classes[labels[earlier[0]]]
            what = f"{name}, the same box as object {earlier[0] + 1}, which is {other}"
            yield Remark("conflict", int(later) + 1, what)
