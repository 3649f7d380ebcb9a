"""Sizes and ratios for a head: clusters of a dataset's box shapes, in the form that MultiBoxPrior can express.

A layer with m sizes and q ratios has m + q - 1 anchors in a cell: every size with the first ratio, the first size with
every other ratio. The numbers m and q of a layer stay as they are, so that the network keeps its shape and its cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssd.diagnostics.clusters import kmeans, shape_iou
from ssd.diagnostics.statistics import Boxes, Match
from ssd.symbol.anchors import CENTER, AnchorGrid, best_ious, make_grids
from ssd.symbol.features import FeatureMap
from ssd.symbol.head import HeadLayer, square_in_pixels

# Anchors must stand closely enough to meet a box wherever it lies: at most this share of the box's side apart. How
# closely is best depends on the data, so several are tried.
SPACINGS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8)
MIN_GAIN = 0.005  # of the boxes
LEAST_BOXES = 3  # per anchor of a layer; with fewer the layer keeps its anchors
MOST_SHAPES = 4000  # of a layer that are clustered; more change nothing but the time
ROUNDS = 40
DIGITS = 4  # of what is suggested


@dataclass(frozen=True)
class Network:
    """What is given: feature maps and the configured layers; image: (height, width) of the input; compat as in cfg."""

    maps: Sequence[FeatureMap]
    layers: Sequence[HeadLayer]
    image: tuple[int, int]
    compat: str | None

    def grids(self, layers: Sequence[HeadLayer]) -> list[AnchorGrid]:
        """The anchors when the head had these layers."""
        if self.compat:
            return make_grids(self.maps, layers)
        return make_grids(self.maps, [self._square(place, layer) for place, layer in enumerate(layers)])

    def configured(self, place: int, layer: HeadLayer) -> HeadLayer:
        """A layer whose anchors are square in pixels, as the configuration must write it."""
        return self._square(place, layer) if self.compat else layer

    def _square(self, place: int, layer: HeadLayer) -> HeadLayer:
        return square_in_pixels(layer, (self.maps[place].height, self.maps[place].width), self.image)


@dataclass(frozen=True)
class Suggestion:
    """layers: of the head; fitted: which of them are new. before, after: how the boxes meet the anchors."""

    layers: list[HeadLayer]
    fitted: list[bool]
    before: Match
    after: Match


def suggest(network: Network, boxes: Boxes, overlap: float, seed: int) -> Suggestion:
    """The best of several fits by the share of boxes that an anchor meets with IoU >= overlap; what is configured when
    none is better. Of nearly equal ones that with the coarsest layers, whose cells see more of the image."""
    shares, shapes = boxes.shares, boxes.shapes(network.image[1], network.image[0])

    def judge(layers: Sequence[HeadLayer]) -> Match:
        return Match(best_ious(network.grids(layers), shares), overlap)

    before = judge(network.layers)
    met = within_reach(network.grids(network.layers), shares, overlap)
    fits = [
        Suggestion(*candidate, before, judge(candidate[0]))
        for spacing in SPACINGS
        for wanted in (np.ones_like(met), met)
        if (candidate := _candidate(network, shapes, wanted, (spacing, seed)))
    ]
    better = [fit for fit in fits if _value(fit.after) > _value(before)]
    if not better:
        return Suggestion(list(network.layers), [False] * len(network.layers), before, before)
    most = max(fit.after.share for fit in better)
    return [fit for fit in better if fit.after.share >= most - MIN_GAIN][-1]


def _value(match: Match) -> tuple[float, float]:
    return match.share, float(match.best.mean())


def _candidate(
    network: Network, shapes: np.ndarray, wanted: np.ndarray, how: tuple[float, int]
) -> tuple[list[HeadLayer], list[bool]] | None:
    """Layers fitted to their shapes, and which of them are new; None when none is.

    wanted: bool [N, L], the boxes that count in each layer. how: the spacing that divides the boxes, and the seed.
    """
    steps = [grid.step[0] * network.image[0] for grid in network.grids(network.layers)]
    owner = layer_of(shapes, steps, how[0])
    layers, fitted = [], []
    for place, layer in enumerate(network.layers):
        members = shapes[(owner == place) & wanted[:, place]]
        enough = len(members) >= LEAST_BOXES * layer.anchors_per_cell
        if enough:
            sides, ratios = fit_layer(members, len(layer.sizes), len(layer.ratios), how[1])
            square = replace(layer, sizes=_rounded(sides / network.image[0]), ratios=_rounded(ratios))
            layer = network.configured(place, square)
        layers.append(layer)
        fitted.append(enough)
    return (layers, fitted) if any(fitted) else None


def within_reach(grids: Sequence[AnchorGrid], boxes: np.ndarray, overlap: float) -> np.ndarray:
    """bool [N, L]: whether an anchor of the box's own shape, in the nearest cell of the layer, would reach the overlap.

    Where it does not, as for a box smaller than a cell and between two centers, hardly any anchor can: a fit that
    leaves such boxes out serves the others better.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9).astype(np.float64)
    centers = (boxes[:, 2:] + boxes[:, :2]) / 2
    found = []
    for grid in grids:
        step, cells = np.array(grid.step[::-1]), np.array([grid.columns, grid.rows])
        nearest = (np.clip(np.rint(centers / step - CENTER), 0, cells - 1) + CENTER) * step
        common = np.maximum(1 - np.abs(centers - nearest) / sides, 0).prod(axis=1)
        found.append(common / (2 - common) >= overlap)
    return np.stack(found, axis=1)


def layer_of(shapes: np.ndarray, steps: Sequence[float], spacing: float) -> np.ndarray:
    """int [N]: the coarsest layer whose anchors are at most spacing * shorter side apart; the finest when none is."""
    reach = spacing * shapes.min(axis=1)
    order = np.argsort(steps, kind="stable")  # finest first
    fits = np.asarray(steps)[order][None] <= reach[:, None]
    return order[np.maximum(fits.sum(axis=1) - 1, 0)]


def fit_layer(shapes: np.ndarray, sizes: int, ratios: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(sides in pixels [sizes], ratios [ratios]) that the shapes [N, 2] meet best, by mean IoU of their best anchor.

    Free clusters first; each in turn is taken for the anchor that the first size and the first ratio make, those
    nearest to it in size give the other ratios, the rest the other sizes. Then Lloyd's rounds under the constraint.
    """
    shapes = shapes[np.lexsort(shapes.T)]
    shapes = shapes[:: -(-len(shapes) // MOST_SHAPES)]
    centers = kmeans(shapes, sizes + ratios - 1, seed)
    sides, aspects = np.sqrt(centers.prod(axis=1)), centers[:, 0] / centers[:, 1]
    best, best_value = (sides[:sizes], aspects[:ratios]), -1.0
    for pivot in range(len(centers)):
        nearest = np.argsort(np.abs(np.log(sides / sides[pivot])), kind="stable")
        others = nearest[nearest != pivot]
        start_sizes = sides[[pivot, *others[ratios - 1 :]]]
        start_ratios = aspects[[pivot, *others[: ratios - 1]]]
        found, value = _constrained(shapes, start_sizes, start_ratios)
        if value > best_value:
            best, best_value = found, value
    return best


def _constrained(
    shapes: np.ndarray, sizes: np.ndarray, ratios: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Lloyd's rounds on sizes and ratios: medians of the sides and aspects of what each of them owns."""
    sides, aspects = np.sqrt(shapes.prod(axis=1)), shapes[:, 0] / shapes[:, 1]
    best, best_value = (sizes, ratios), -1.0
    for _ in range(ROUNDS):
        iou = shape_iou(shapes, anchors_of(sizes, ratios))
        value = float(iou.max(axis=1).mean())
        if value <= best_value + 1e-9:
            break
        best, best_value = (sizes, ratios), value
        owner = iou.argmax(axis=1)
        by_size = np.where(owner < len(sizes), owner, 0)  # anchors of the other ratios have the first size
        by_ratio = np.where(owner < len(sizes), 0, owner - len(sizes) + 1)
        sizes = np.array([_median(sides[by_size == k], side) for k, side in enumerate(sizes)])
        ratios = np.array([_median(aspects[by_ratio == k], ratio) for k, ratio in enumerate(ratios)])
    return best, best_value


def anchors_of(sizes: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """[m + q - 1, 2]: widths and heights of a cell's anchors, in MultiBoxPrior's order."""
    sides = np.concatenate([sizes, np.full(len(ratios) - 1, sizes[0])])
    roots = np.sqrt(np.concatenate([np.full(len(sizes), ratios[0]), ratios[1:]]))
    return np.stack([sides * roots, sides / roots], axis=1)


def _median(values: np.ndarray, otherwise: float) -> float:
    return float(np.median(values)) if len(values) else float(otherwise)


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in values)
