"""The anchors of a network as numbers, without running it, and how well boxes meet them.

Boxes are corners [N, 4] (xmin, ymin, xmax, ymax) as shares 0..1 of the network's input. IoU is the same in shares as in
pixels, because both sides are stretched alike for both boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssd.config.parts import NetworkConfig
from ssd.symbol.features import FeatureMap, feature_maps
from ssd.symbol.head import AUTO_STEP, HeadLayer, head_layers, square_in_pixels

CENTER = 0.5  # MultiBoxPrior's default offset: anchors sit in the middle of their cells


@dataclass(frozen=True)
class AnchorGrid:
    """The anchors of one feature map: the same shapes around the center of every cell.

    step: (y, x), distance of two centers. shapes: float64 [K, 2], width and height of each anchor of a cell. All are
    shares of the input's sides.
    """

    name: str
    rows: int
    columns: int
    step: tuple[float, float]
    shapes: np.ndarray

    @property
    def count(self) -> int:
        return self.rows * self.columns * len(self.shapes)

    def boxes(self) -> np.ndarray:
        """float64 [rows * columns * K, 4] in the network's order: rows, columns, then shapes; not clipped."""
        y = (np.arange(self.rows) + CENTER) * self.step[0]
        x = (np.arange(self.columns) + CENTER) * self.step[1]
        centers = np.stack(np.meshgrid(x, y), axis=-1)[:, :, None]  # [rows, columns, 1, (x, y)]
        return np.concatenate([centers - self.shapes / 2, centers + self.shapes / 2], axis=-1).reshape(-1, 4)


def anchor_grids(network: NetworkConfig) -> list[AnchorGrid]:
    """One per feature map of the configured head, in the network's order. Errors: as ssd.symbol.feature_maps."""
    maps = feature_maps(network)
    return make_grids(maps, network_layers(network, maps))


def network_layers(network: NetworkConfig, maps: Sequence[FeatureMap]) -> list[HeadLayer]:
    """The layers of the head with the sizes and ratios that the graph gives to MultiBoxPrior."""
    layers = head_layers(network)
    if network.compat:
        return layers
    image = network.input.shape
    return [square_in_pixels(layer, (map_.height, map_.width), image) for map_, layer in zip(maps, layers, strict=True)]


def make_grids(maps: Sequence[FeatureMap], layers: Sequence[HeadLayer]) -> list[AnchorGrid]:
    """MultiBoxPrior's formula (MXNet 1.9.1, src/operator/contrib/multibox_prior.cc): every size with the first ratio,
    then the first size with every other ratio; a size is a share of the height, widths take the map's aspect."""
    grids = []
    for map_, layer in zip(maps, layers, strict=True):
        rest = layer.ratios[1:]
        sizes = np.array([*layer.sizes, *[layer.sizes[0]] * len(rest)])
        roots = np.sqrt([layer.ratios[0]] * len(layer.sizes) + list(rest))
        shapes = np.stack([sizes * map_.height / map_.width * roots, sizes / roots], axis=1)
        step = (1 / map_.height, 1 / map_.width) if layer.step == AUTO_STEP else (layer.step, layer.step)
        grids.append(AnchorGrid(map_.name, map_.height, map_.width, step, shapes))
    return grids


def best_ious(grids: Sequence[AnchorGrid], boxes: np.ndarray) -> np.ndarray:
    """float64 [N, L]: the IoU of every box with the best anchor of every grid.

    Exact and without the anchors: of all anchors of one shape the one with the nearest center overlaps a box most, in
    x and in y alike, so that one cell per grid is enough.
    """
    boxes = np.asarray(boxes, np.float64)
    return np.stack([_best_of(grid, boxes) for grid in grids], axis=1) if len(grids) else np.zeros((len(boxes), 0))


def _best_of(grid: AnchorGrid, boxes: np.ndarray) -> np.ndarray:
    overlap = np.ones((len(boxes), len(grid.shapes)))
    for axis, (cells, step) in enumerate([(grid.columns, grid.step[1]), (grid.rows, grid.step[0])]):
        low, high = boxes[:, axis], boxes[:, axis + 2]
        cell = np.clip(np.rint((low + high) / 2 / step - CENTER), 0, cells - 1)
        center, half = ((cell + CENTER) * step)[:, None], grid.shapes[None, :, axis] / 2
        overlap *= np.maximum(np.minimum(high[:, None], center + half) - np.maximum(low[:, None], center - half), 0)
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    union = areas[:, None] + grid.shapes.prod(axis=1)[None] - overlap
    return (overlap / np.where(union > 0, union, 1)).max(axis=1, initial=0)
