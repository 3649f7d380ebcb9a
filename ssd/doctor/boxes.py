"""What can be wrong with the boxes of one picture beyond what the readers refuse."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ssd.data.checks import TOLERANCE
from ssd.data.dataset import Sample
from ssd.data.problems import ERROR, WARNING
from ssd.evaluation.boxes import iou_matrix

SAME = 0.98  # IoU from which two boxes are taken for one
SHARES_SIDE = 16  # pixels from which a picture is too large for boxes that end at its first pixel
MOST_COMPARED = 2000  # objects of a picture; the table of all pairs of more would fill the memory


@dataclass(frozen=True)
class Remark:
    """object: position of the box in the sample, from 1; None for all of them."""

    kind: str
    severity: str
    object: int | None
    what: str


@dataclass(frozen=True)
class Input:
    """The network's input: its sides, the shortest side of a box there that is no remark, in pixels, and whether
    pictures keep their proportions in it (resize_mode "fit")."""

    width: int
    height: int
    small: float
    fitted: bool = False


def remarks(sample: Sample, classes: Sequence[str], target: Input) -> Iterator[Remark]:
    """Everything about the boxes of one sample, boxes [N, 6] as ssd.data.dataset.Sample has them."""
    broken = list(_contract(sample, len(classes)))
    yield from broken
    if broken or not len(sample.boxes):
        return
    corners = sample.boxes[:, 1:5].astype(np.float64)
    if corners.max() <= 1 and min(sample.width, sample.height) >= SHARES_SIDE:
        yield Remark("units", ERROR, None, "all boxes end at the first pixel: these are shares 0..1, not pixels")
        return
    yield from _pairs(sample, corners, classes)
    scale = np.array([target.width / sample.width, target.height / sample.height])
    sides = (corners[:, 2:] - corners[:, :2]) * (scale.min() if target.fitted else scale)
    tiny = np.flatnonzero(sides.min(axis=1) < target.small)
    if len(tiny):
        width, height = sides[tiny[sides[tiny].min(axis=1).argmin()]]
        what = f"{len(tiny)} of {len(sides)} boxes, down to {width:.1f}x{height:.1f} pixels"
        yield Remark("small", WARNING, int(tiny[0]) + 1, f"{what} at {target.width}x{target.height}")


def _contract(sample: Sample, classes: int) -> Iterator[Remark]:
    """What no reader of this package lets through, but one of the user's own may."""
    for number, row in enumerate(sample.boxes.tolist(), start=1):
        label, xmin, ymin, xmax, ymax = row[:5]
        box = f"box ({xmin:g}, {ymin:g}, {xmax:g}, {ymax:g})"
        if not np.isfinite(row).all():
            yield Remark("object", ERROR, number, f"{box} of class {label:g} holds a number that is not finite")
        elif label != int(label) or not 0 <= label < classes:
            yield Remark("class", ERROR, number, f"class {label:g} is none of 0..{classes - 1}")
        elif xmax < xmin or ymax < ymin:
            yield Remark("swapped", ERROR, number, f"{box}, has swapped corners")
        elif xmax == xmin or ymax == ymin:
            yield Remark("degenerate", ERROR, number, f"{box}, has no area")
        elif max(-xmin, -ymin, xmax - sample.width, ymax - sample.height) > TOLERANCE:
            yield Remark("out_of_range", ERROR, number, f"{box}, leaves the image of {sample.width}x{sample.height}")


def _pairs(sample: Sample, corners: np.ndarray, classes: Sequence[str]) -> Iterator[Remark]:
    """Boxes that coincide: of one class a slip, of two a contradiction. Told of the later one."""
    corners, labels = corners[:MOST_COMPARED], sample.boxes[:MOST_COMPARED, 0].astype(int)
    first, second = np.nonzero(np.triu(iou_matrix(corners, corners) >= SAME, k=1))
    for later in np.unique(second):
        earlier = first[second == later]
        alike = earlier[labels[earlier] == labels[later]]
        name = classes[labels[later]]
        if len(alike):
            yield Remark("duplicate", WARNING, int(later) + 1, f"{name}, the same box as object {alike[0] + 1}")
        else:
            other = classes[labels[earlier[0]]]
            what = f"{name}, the same box as object {earlier[0] + 1}, which is {other}"
            yield Remark("conflict", WARNING, int(later) + 1, what)
