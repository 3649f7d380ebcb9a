"""Counts of a dataset, histograms of its boxes, and how many of them the anchors of the network meet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssd.config.parts import InputSpec
from ssd.data.base import Sample
from ssd.symbol.anchors import AnchorGrid, best_ious

SIDE_EDGES = 2.0 ** np.arange(0, 11.01, 1 / 3)  # pixels at the input, three bins per octave
RATIO_EDGES = 2.0 ** np.arange(-3, 3.01, 1 / 3)  # width / height
OVERLAPS_AT_ALL = 1e-6  # IoU below which MultiBoxTarget gives a box no anchor


@dataclass(frozen=True)
class Boxes:
    """The boxes of several images, one under the other.

    labels: int [N]. corners: float32 [N, 4] in pixels of the images. sizes: float32 [N, 2], (width, height) of each
    box's image, or of the canvas it lies on (see on_input). difficult: bool [N]. image: int [N], which image.
    """

    labels: np.ndarray
    corners: np.ndarray
    sizes: np.ndarray
    difficult: np.ndarray
    image: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shares(self) -> np.ndarray:
        """Corners [N, 4] as shares 0..1 of `sizes`."""
        return self.corners / self.sizes[:, [0, 1, 0, 1]]

    def shapes(self, width: int, height: int) -> np.ndarray:
        """float64 [N, 2]: widths and heights in pixels at a network input of this size."""
        shares = self.shares.astype(np.float64)
        return (shares[:, 2:] - shares[:, :2]) * (width, height)


def gather(samples: Sequence[Sample]) -> Boxes:
    """The boxes of all samples."""
    numbers = [len(sample.boxes) for sample in samples]
    rows = np.concatenate([np.zeros((0, 6), np.float32), *(sample.boxes for sample in samples)])
    sizes = np.array([(sample.width, sample.height) for sample in samples], np.float32).reshape(-1, 2)
    return Boxes(
        labels=rows[:, 0].astype(np.int64),
        corners=rows[:, 1:5],
        sizes=np.repeat(sizes, numbers, axis=0),
        difficult=rows[:, 5] > 0,
        image=np.repeat(np.arange(len(samples)), numbers),
    )


def on_input(boxes: Boxes, spec: InputSpec) -> Boxes:
    """The boxes with shares of the network's input: of the image where it is stretched to the input; with "fit", of
    the canvas whose upper left corner the image fills (in pixels of the image)."""
    if spec.resize_mode == "force":
        return boxes
    scale = (np.array([spec.width, spec.height]) / boxes.sizes).min(axis=1, keepdims=True)
    return replace(boxes, sizes=(np.array([spec.width, spec.height]) / scale).astype(np.float32))


def join(parts: Sequence[Boxes]) -> Boxes:
    """All parts as one; `image` counts anew in each."""
    fields = ("labels", "corners", "sizes", "difficult", "image")
    return Boxes(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields})


def counts(samples: Sequence[Sample], boxes: Boxes, classes: Sequence[str]) -> dict:
    """{"images", "images_without_objects", "boxes", "difficult", "classes": {name: {"boxes", "images"}}} of a split."""
    number = np.bincount(boxes.labels, minlength=len(classes))
    pairs = np.unique(np.stack([boxes.image, boxes.labels], axis=1), axis=0)
    images = np.bincount(pairs[:, 1], minlength=len(classes))
    return {
        "images": len(samples),
        "images_without_objects": sum(not len(sample.boxes) for sample in samples),
        "boxes": len(boxes),
        "difficult": int(boxes.difficult.sum()),
        "classes": {
            name: {"boxes": int(number[label]), "images": int(images[label])} for label, name in enumerate(classes)
        },
    }


def histogram(values: np.ndarray, edges: np.ndarray, groups: Mapping[str, np.ndarray]) -> dict:
    """{"edges": [B + 1], name of each group: [B]}; groups are masks over the values. What lies beyond the edges
    counts in the outermost bins."""
    inside = np.clip(values, edges[0], np.nextafter(edges[-1], 0))
    found = {name: np.histogram(inside[mask], edges)[0].tolist() for name, mask in groups.items()}
    return {"edges": [round(float(edge), 4) for edge in edges], **found}


@dataclass(frozen=True)
class Match:
    """How the boxes meet the anchors. ious: [N, L], the best IoU per box and layer. overlap: matching.overlap."""

    ious: np.ndarray
    overlap: float

    @property
    def best(self) -> np.ndarray:
        return self.ious.max(axis=1, initial=0)

    @property
    def matched(self) -> np.ndarray:
        """bool [N]: some anchor reaches the overlap, so that it learns the box by the threshold."""
        return self.best >= self.overlap

    @property
    def forced(self) -> np.ndarray:
        """bool [N]: none does; MultiBoxTarget still gives such a box the one anchor that overlaps it most."""
        return ~self.matched & (self.best > OVERLAPS_AT_ALL)

    @property
    def share(self) -> float:
        """Of the boxes that are matched by the threshold; 1 for no boxes."""
        return float(self.matched.mean()) if len(self.ious) else 1.0


def match(grids: Sequence[AnchorGrid], boxes: Boxes, overlap: float) -> Match:
    return Match(best_ious(grids, boxes.shares), overlap)


def anchor_table(grids: Sequence[AnchorGrid], found: Match, width: int, height: int) -> dict:
    """Per layer: cells, anchors, their sides in pixels of the input, boxes with an anchor at the overlap ("boxes"), and
    those of them that no other layer meets better ("best"). And the totals.
    """
    best_layer = found.ious.argmax(axis=1) if len(found.ious) else np.zeros(0, int)
    layers = []
    for number, grid in enumerate(grids):
        reached = found.ious[:, number] >= found.overlap
        layers.append(
            {
                "name": grid.name,
                "rows": grid.rows,
                "columns": grid.columns,
                "step": [round(grid.step[1] * width, 2), round(grid.step[0] * height, 2)],
                "anchors": grid.count,
                "shapes": (grid.shapes * (width, height)).round(1).tolist(),
                "boxes": int(reached.sum()),
                "best": int((reached & (best_layer == number)).sum()),
            }
        )
    return {
        "overlap": found.overlap,
        "layers": layers,
        "anchors": sum(grid.count for grid in grids),
        "boxes": len(found.ious),
        "matched": int(found.matched.sum()),
        "forced": int(found.forced.sum()),
        "unmatched": int((~found.matched & ~found.forced).sum()),
        "share": round(found.share, 6),
        "mean_iou": round(float(found.best.mean()), 6) if len(found.ious) else None,
    }
