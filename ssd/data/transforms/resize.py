"""Where an image, or a part of it, lies on the network's input, and the way of boxes there and back.

One rectangle of whole pixels of the image goes to one rectangle of whole pixels of the input. Both ways are exact:
what is rounded is the rectangle, not the boxes. Training, evaluation and demo all place images with this.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ssd.config.parts import InputSpec
from ssd.data.base import Size
from ssd.data.transforms.crop import WHOLE

Window = tuple[float, ...]  # (xmin, ymin, xmax, ymax) in shares of an image, see geometry.py

FACTORS = (8, 4, 2)  # by which a JPEG can be decoded smaller, for a fraction of the time


class Rectangle(NamedTuple):
    """Whole pixels; right and bottom are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> Size:
        return Size(self.right - self.left, self.bottom - self.top)


@dataclass(frozen=True)
class ResizeTransform:
    """source, in pixels of the image decoded at 1/factor of its size, fills target, in pixels of the input."""

    source: Rectangle
    target: Rectangle
    factor: int
    flipped: bool

    def to_input(self, corners: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] in pixels of the whole image -> pixels of the input, not clipped. float64."""
        offset, scale = self._map()
        return self._ordered(corners * scale + offset)

    def to_image(self, corners: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] in pixels of the input -> pixels of the whole image, not clipped. float64."""
        offset, scale = self._map()
        return self._ordered((corners - np.array(offset)) / scale)

    def _map(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Offset and scale of xmin, ymin, xmax and ymax; a mirrored image has negative widths."""
        (width, height), (source_width, source_height) = self.target.size, self.source.size
        x, y = width / (source_width * self.factor), height / (source_height * self.factor)
        left = self.target.left - self.source.left * self.factor * x
        top = self.target.top - self.source.top * self.factor * y
        if self.flipped:
            x, left = -x, self.target.left + self.target.right - left
        return (left, top) * 2, (x, y) * 2

    def _ordered(self, corners: np.ndarray) -> np.ndarray:
        return corners[:, [2, 1, 0, 3]] if self.flipped else corners


def compute_resize(
    window: Window, image: Size, region: Rectangle, flipped: bool, reduce: bool
) -> ResizeTransform | None:
    """Lays a window of an image onto a region of the input, mirrored left to right or not.

    None when the window shows nothing of the image. reduce: the image is decoded at the smallest size that still
    has at least as many pixels as the input shows of it, along both axes (one less where an edge is rounded).
    """
    spans = [
        _shown(window[axis], window[axis + 2], (region[axis], region[axis + 2]), flipped and axis == 0)
        for axis in (0, 1)
    ]
    if spans[0] is None or spans[1] is None:
        return None
    (low_x, high_x, left, right), (low_y, high_y, top, bottom) = spans[0], spans[1]
    ratio = min((high_x - low_x) * image.width / (right - left), (high_y - low_y) * image.height / (bottom - top))
    factor = next((factor for factor in FACTORS if factor <= ratio), 1) if reduce else 1
    x, y = _pixels(low_x, high_x, image.width / factor), _pixels(low_y, high_y, image.height / factor)
    return ResizeTransform(Rectangle(x[0], y[0], x[1], y[1]), Rectangle(left, top, right, bottom), factor, flipped)


def letterbox_region(shown: tuple[float, float], spec: InputSpec) -> Rectangle:
    """The part of the input for something of `shown` pixels (width, height): all of it, or with `fit` the largest
    rectangle of these proportions, in the upper left corner."""
    if spec.resize_mode == "force":
        return Rectangle(0, 0, spec.width, spec.height)
    scale = min(spec.width / shown[0], spec.height / shown[1])
    width = min(spec.width, max(1, round(scale * shown[0])))
    height = min(spec.height, max(1, round(scale * shown[1])))
    return Rectangle(0, 0, width, height)


def eval_resize(image: Size, spec: InputSpec) -> ResizeTransform:
    """An image without augmentation, as the network sees it in evaluation and demo."""
    placement = compute_resize(WHOLE, image, letterbox_region(image, spec), flipped=False, reduce=spec.antialias)
    assert placement is not None
    return placement


def _shown(low: float, high: float, region: tuple[int, int], mirrored: bool) -> tuple[float, float, int, int] | None:
    """Along one axis: what a window low..high shows of the image (shares), and the pixels of the region it fills."""
    first, last = max(low, 0.0), min(high, 1.0)
    if first >= last:
        return None
    length = region[1] - region[0]
    start, stop = (round((edge - low) / (high - low) * length) for edge in (first, last))
    if start == stop:  # thinner than a pixel
        start, stop = (start, stop + 1) if start < length else (start - 1, stop)
    if mirrored:
        start, stop = length - stop, length - start
    return first, last, region[0] + start, region[0] + stop


def _pixels(low: float, high: float, length: float) -> tuple[int, int]:
    """Shares low..high as whole pixels, at least one, of `length`, whose fraction is left out."""
    whole = max(1, math.floor(length))
    start = min(round(low * length), whole - 1)
    return start, max(start + 1, min(round(high * length), whole))
