"""Encoded pictures with boxes to augmented inputs with boxes, without ever building the large canvas.

A view of a picture (expansion, then crop) is one rectangle of it that is resized into one rectangle of the input, so
that the work does not grow with the canvas. Colours change before or after the resize, wherever there are fewer
pixels. Shrinking: JPEGs are decoded at 1/2, 1/4 or 1/8 of their size where that leaves enough pixels, which averages;
what remains is a factor below two along one axis at least, done by the chosen interpolation as the original does it.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from ssd.data.augment import Augment
from ssd.data.colour import sample_shift, shifted
from ssd.data.dataset import no_boxes
from ssd.data.geometry import WHOLE, Window, centres_inside, sample_window
from ssd.data.images import decode_reduced
from ssd.data.placement import InputSpec, Placement, Rectangle, Size, place, region_of
from ssd.data.recordio import Picture
from ssd.errors import UserError

INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)
MOSAIC_CENTRE = (0.3, 0.7)  # where the four pictures of a mosaic meet, as a share of the input
MOSAIC_ZOOM = (0.5, 1.0)  # how much of its picture a tile shows: from half of the largest part that fits, to all of it
MIXUP_BETA = 32.0  # of the share of the first picture: nearly always between 0.4 and 0.6, so that both can be seen
LEAST_SIDE = 1e-3  # pixels; what is left of a box at the edge of a view must be wider and higher

Painted = tuple[
    np.ndarray, np.ndarray
]  # uint8 BGR [H, W, 3]; float32 [N, 6] rows of a label, corners 0..1 of the input


class Painter:
    """Makes inputs as an augmentation and an input spec say. Thread-safe: all chance comes from the rng of a call."""

    def __init__(self, augment: Augment, spec: InputSpec) -> None:
        self._augment = augment
        self._spec = spec
        self._background = np.empty((spec.height, spec.width, 3), np.uint8)
        self._background[:] = spec.border[::-1]
        self._scale = np.array((spec.width, spec.height) * 2, np.float64)

    def single(self, picture: Picture, rng: np.random.Generator) -> Painted:
        """One picture on the whole input."""
        size = picture.size
        window = sample_window(picture.boxes[:, 1:5], size.width / size.height, self._augment, rng)
        shown = ((window[2] - window[0]) * size.width, (window[3] - window[1]) * size.height)
        region = region_of(shown, self._spec)
        expanded = min(window) < 0 or max(window) > 1
        covered = not expanded and region.size == (self._spec.width, self._spec.height)
        canvas = np.empty_like(self._background) if covered else self._background.copy()
        if expanded:
            canvas[: region.bottom, : region.right] = self._augment.pad.fill
        boxes = self._paint(canvas, picture, window, region, rng)
        return canvas, boxes

    def mosaic(self, pictures: Sequence[Picture], rng: np.random.Generator) -> Painted:
        """Parts of four pictures side by side, each in the proportions that it would have alone."""
        canvas = np.empty_like(self._background)
        x, y = (round(rng.uniform(*MOSAIC_CENTRE) * side) for side in (self._spec.width, self._spec.height))
        rows = []
        for number, picture in enumerate(pictures):
            left, right = ((0, x), (x, self._spec.width))[number % 2]
            top, bottom = ((0, y), (y, self._spec.height))[number // 2]
            tile = Rectangle(left, top, right, bottom)
            window = _part_for(tile.size, picture.size, self._spec, rng)
            rows.append(self._paint(canvas, picture, window, tile, rng))
        return canvas, np.concatenate(rows)

    def mixup(self, first: Painted, second: Painted, rng: np.random.Generator) -> Painted:
        """The weighted mean of two inputs, with the boxes of both."""
        share = rng.beta(MIXUP_BETA, MIXUP_BETA)
        image = cv2.addWeighted(first[0], share, second[0], 1 - share, 0)
        return image, np.concatenate([first[1], second[1]])

    def _paint(
        self, canvas: np.ndarray, picture: Picture, window: Window, region: Rectangle, rng: np.random.Generator
    ) -> np.ndarray:
        """Paints a window of a picture onto a region of the canvas (in place); returns the rows of its boxes."""
        flipped = rng.random() < self._augment.mirror
        shift = sample_shift(self._augment, rng)
        chosen = rng.integers(len(INTERPOLATIONS)) if self._augment.interpolation == "random" else 1
        placement = place(window, picture.size, region, flipped, reduce=True)
        if placement is None:
            return no_boxes()
        part, target = _decoded(picture, placement), placement.target
        fewer = part.shape[0] * part.shape[1] < target.size.width * target.size.height
        part = shifted(part, shift) if fewer else part
        part = _resized(part, target.size, INTERPOLATIONS[chosen])
        part = part if fewer else shifted(part, shift)
        canvas[target.top : target.bottom, target.left : target.right] = cv2.flip(part, 1) if flipped else part
        return self._rows(picture, window, placement)

    def _rows(self, picture: Picture, window: Window, placement: Placement) -> np.ndarray:
        """Boxes whose centre the window holds, cut off where the picture ends."""
        boxes = picture.boxes
        if window is not WHOLE:
            boxes = boxes[centres_inside(boxes[:, 1:5], np.array([window]))[:, 0]]
        left, top, right, bottom = placement.target
        corners = placement.to_input(boxes[:, 1:5] * (picture.size * 2))
        corners = np.minimum(np.maximum(corners, (left, top, left, top)), (right, bottom, right, bottom))
        rows = boxes.astype(np.float32)
        rows[:, 1:5] = corners / self._scale
        size = corners[:, 2:] - corners[:, :2]
        return rows[size.min(axis=1) > LEAST_SIDE]


def _part_for(tile: Size, picture: Size, spec: InputSpec, rng: np.random.Generator) -> Window:
    """A random part of a picture in the proportions of a tile, distorted no more than the whole would be."""
    ratio = (tile.width / spec.width) / (tile.height / spec.height)
    if spec.resize_mode == "fit":
        ratio = (tile.width / tile.height) / (picture.width / picture.height)
    zoom, x, y = rng.random(3).tolist()
    zoom = MOSAIC_ZOOM[0] + zoom * (MOSAIC_ZOOM[1] - MOSAIC_ZOOM[0])
    width, height = zoom * min(1.0, ratio), zoom * min(1.0, 1 / ratio)
    left, top = x * (1 - width), y * (1 - height)
    return left, top, left + width, top + height


def _resized(image: np.ndarray, size: Size, interpolation: int) -> np.ndarray:
    if interpolation != cv2.INTER_LANCZOS4:
        return cv2.resize(image, size, interpolation=interpolation)
    # OpenCV computes Lanczos in floats with vector instructions, in bytes without: 1.5 times as long.
    floats = cv2.resize(image.astype(np.float32), size, interpolation=interpolation)
    return cv2.add(floats, 0, dtype=cv2.CV_8U)  # rounds, and stops at 0 and 255


def _decoded(picture: Picture, placement: Placement) -> np.ndarray:
    """The part of the picture that is shown, uint8 BGR."""
    image = decode_reduced(picture.data, placement.factor, picture.what)
    left, top, right, bottom = placement.source
    if image.shape[1] < right or image.shape[0] < bottom:
        raise UserError(f"{picture.what}: the image is smaller than its header says")
    return image[top:bottom, left:right]
