"""Caffe's anchors (PriorBox), as numbers.

After the SSD paper's implementation: around the center of each cell and for each min_size a square of it, one of
sqrt(min_size x max_size), then min_size stretched to each aspect ratio. Sizes and steps are pixels of the input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssd.importers.caffe.graph import Graph, UnsupportedError, Value, converts, images
from ssd.importers.caffe.layers import Layer

SAME_RATIO = 1e-6
MAX_SHAPES = 1000  # of one cell
MAX_PIXELS = 1 << 20  # of an image side or a size


@dataclass(frozen=True)
class PriorShape:
    """ratios: width / height beside 1. step: (y, x) distance of centers; 0 = what fits the map. image: (height, width).
    clip: None, "corners" (Caffe's: corners are moved into the image) or "centers" (centers and sizes are, as some
    PyTorch networks do)."""

    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    step: tuple[float, float]
    offset: float
    image: tuple[float, float]
    clip: str | None

    def shapes(self) -> np.ndarray:
        """float64 [K, 2], width and height of each anchor of a cell, in pixels."""
        found = []
        for number, size in enumerate(self.min_sizes):
            found.append((size, size))
            if self.max_sizes:
                side = (size * self.max_sizes[number]) ** 0.5
                found.append((side, side))
            found += [(size * ratio**0.5, size / ratio**0.5) for ratio in self.ratios]
        return np.array(found, np.float64)

    def boxes(self, rows: int, columns: int) -> np.ndarray:
        """float32 [rows * columns * K, 4], corners as shares of the image: rows, columns, then shapes."""
        (height, width), shapes = self.image, self.shapes()
        step_y, step_x = self.step if all(self.step) else (height / rows, width / columns)
        y = (np.arange(rows) + self.offset) * step_y / height
        x = (np.arange(columns) + self.offset) * step_x / width
        centers = np.stack(np.meshgrid(x, y), axis=-1)[:, :, None]  # [rows, columns, 1, (x, y)]
        sizes = (shapes / (width, height))[None, None]
        if self.clip == "centers":
            centers, sizes = centers.clip(0, 1), sizes.clip(0, 1)
        corners = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=-1).reshape(-1, 4)
        return (corners.clip(0, 1) if self.clip == "corners" else corners).astype(np.float32)


@converts("PriorBox", inputs=(1, 2))
def prior_box(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """A constant [1, 2, N * 4]: corners, and below them the variances."""
    options = layer.options.prior_box_param
    _, _, rows, columns = images(bottoms[0])
    image = images(bottoms[1])[2:] if len(bottoms) == 2 else graph.input_shape[2:]
    height, width = (options.img_h or options.img_size, options.img_w or options.img_size)
    step = (options.step_h or options.step, options.step_w or options.step)
    shape = PriorShape(
        tuple(options.min_size), tuple(options.max_size), _ratios(options.aspect_ratio, options.flip), step,
        options.offset, (height or image[0], width or image[1]), "corners" if options.clip else None,
    )  # fmt: skip
    _check(shape)
    count = rows * columns * len(shape.shapes())
    graph.checked((2, 4 * count))
    corners = shape.boxes(rows, columns)
    variances = np.tile(np.array(four_variances(options.variance), np.float32), len(corners))
    return [graph.constant(np.stack([corners.reshape(-1), variances])[None])]


def four_variances(given: Sequence[float]) -> list[float]:
    """One for all, or one each. Errors: UnsupportedError."""
    values = list(given) or [0.1]
    if len(values) not in (1, 4) or not all(0 < value < np.inf for value in values):
        raise UnsupportedError(f"variances {values[:8]}: expected one or four positive numbers")
    return values * (4 // len(values))


def _ratios(given: Sequence[float], flip: bool) -> tuple[float, ...]:
    """Those that differ from 1 and from one another, each followed by its inverse."""
    if len(given) > MAX_SHAPES or not all(0 < ratio < np.inf for ratio in given):
        raise UnsupportedError("aspect ratios that are not positive, or too many")
    found = [1.0]
    for ratio in given:
        if all(abs(ratio - other) >= SAME_RATIO for other in found):
            found += [ratio, 1 / ratio] if flip else [ratio]
    return tuple(found[1:])


def _check(shape: PriorShape) -> None:
    sizes = (*shape.min_sizes, *shape.max_sizes)
    if not shape.min_sizes or not all(0 < size <= MAX_PIXELS for size in sizes):
        raise UnsupportedError(f"sizes {list(sizes[:8])}: expected one min_size or more, in pixels")
    if shape.max_sizes and len(shape.max_sizes) != len(shape.min_sizes):
        raise UnsupportedError(f"{len(shape.max_sizes)} max_size for {len(shape.min_sizes)} min_size")
    if any(high <= low for low, high in zip(shape.min_sizes, shape.max_sizes, strict=False)):
        raise UnsupportedError("a max_size that is not larger than its min_size")
    if len(sizes) * (2 + len(shape.ratios)) > MAX_SHAPES:
        raise UnsupportedError("too many anchors per cell")
    numbers = (*shape.step, *shape.image, shape.offset)
    if not all(0 <= number <= MAX_PIXELS for number in numbers):
        raise UnsupportedError("step, offset or image size out of range")
