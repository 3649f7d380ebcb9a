"""Encoded images with boxes to augmented inputs with boxes, without ever building the large canvas.

A view of an image (expansion, then crop) is one rectangle of it that is resized into one rectangle of the input, so
that the work does not grow with the canvas. Colors change before or after the resize, wherever there are fewer
pixels. Shrinking: JPEGs are decoded at 1/2, 1/4 or 1/8 of their size where that leaves enough pixels, which averages
(if the input spec wants averages); what remains is done by the chosen interpolation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from ssd.config.augment import Augment
from ssd.config.parts import InputSpec
from ssd.data.base import EncodedImage, Size, empty_boxes
from ssd.data.images import decode_reduced
from ssd.data.transforms.color import ColorJitter, apply_jitter, sample_shifts
from ssd.data.transforms.crop import centers_inside, sample_crops
from ssd.data.transforms.resize import Rectangle, ResizeTransform, Window, compute_resize, letterbox_region
from ssd.utils.errors import UserError

INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)
MOSAIC_CENTER = (0.3, 0.7)  # where the four images of a mosaic meet, as a share of the input
MOSAIC_ZOOM = (0.5, 1.0)  # how much of its image a tile shows: from half of the largest part that fits, to all of it
MIXUP_BETA = 32.0  # of the share of the first image: nearly always between 0.4 and 0.6, so that both can be seen
LEAST_SIDE = 1e-3  # pixels; what is left of a box at the edge of a view must be wider and higher

# What paints uint8 BGR [H, W, 3], which takes nearly all of the time and needs no more chance; float32 [N, 6] rows of a
# label, corners 0..1 of the input.
LazySample = tuple[Callable[[], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class AugmentParams:
    """All that is decided of an image before it is decoded.

    placement: None when nothing of it is seen; expanded: whether the rest of the region shows a border; rows: of the
    label, float32 [N, 6].
    """

    region: Rectangle
    placement: ResizeTransform | None
    expanded: bool
    shift: ColorJitter
    interpolation: int
    rows: np.ndarray


class Augmenter:
    """Makes inputs as an augmentation and an input spec say. Thread-safe: all chance comes from the rng of a call.

    An image that is damaged is found out by whoever paints it: UserError.
    """

    def __init__(self, augment: Augment, spec: InputSpec) -> None:
        self._augment = augment
        self._spec = spec
        self._whole = Rectangle(0, 0, spec.width, spec.height)
        self._background = np.empty((spec.height, spec.width, 3), np.uint8)
        self._background[:] = spec.border[::-1]
        self._scale = np.array((spec.width, spec.height) * 2, np.float64)

    def augment_batch(self, sources: Sequence[EncodedImage], rng: np.random.Generator) -> list[LazySample]:
        """Every image on an input of its own."""
        aspects = np.array([source.size.width / source.size.height for source in sources])
        windows = sample_crops(_padded(sources), aspects, self._augment, rng)
        shown = (windows[:, 2:] - windows[:, :2]) * np.array([source.size for source in sources]).reshape(-1, 2)
        regions = [letterbox_region((width, height), self._spec) for width, height in shown.tolist()]
        views = self._views(sources, windows, regions, rng)
        return [(partial(self._single, source, view), view.rows) for source, view in zip(sources, views, strict=True)]

    def mosaic(self, sources: Sequence[EncodedImage], rng: np.random.Generator) -> LazySample:
        """Parts of four images side by side, each in the proportions that it would have alone."""
        width, height = self._spec.width, self._spec.height
        x, y = (
            round(float(share) * side)
            for share, side in zip(rng.uniform(*MOSAIC_CENTER, 2), (width, height), strict=True)
        )
        tiles = [
            Rectangle(*corners)
            for corners in ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
        ]
        windows = [
            _part_for(tile.size, source.size, self._spec, rng.random(3).tolist())
            for tile, source in zip(tiles, sources, strict=True)
        ]
        views = self._views(sources, np.array(windows), tiles, rng)
        return partial(self._render_mosaic, sources, views), np.concatenate([view.rows for view in views])

    def mixup(self, first: LazySample, second: LazySample, rng: np.random.Generator) -> LazySample:
        """The weighted mean of two inputs, with the boxes of both."""
        share = rng.beta(MIXUP_BETA, MIXUP_BETA)
        return partial(_blend, first[0], second[0], share), np.concatenate([first[1], second[1]])

    def _views(
        self,
        sources: Sequence[EncodedImage],
        windows: np.ndarray,
        regions: Sequence[Rectangle],
        rng: np.random.Generator,
    ) -> list[AugmentParams]:
        """What chance makes of windows [P, 4] of images on regions of the input."""
        count = len(sources)
        flips = (rng.random(count) < self._augment.mirror).tolist()
        shifts = sample_shifts(self._augment, count, rng)
        methods = (
            rng.integers(len(INTERPOLATIONS), size=count) if self._augment.interpolation == "random" else [1] * count
        )
        kept = centers_inside(_padded(sources), windows[:, None])[..., 0]
        views = []
        for number, (source, window) in enumerate(zip(sources, windows.tolist(), strict=True)):
            placement = compute_resize(window, source.size, regions[number], flips[number], self._spec.antialias)
            boxes = source.boxes[kept[number, : len(source.boxes)]]
            rows = self._rows(boxes, source.size, placement) if placement else empty_boxes()
            expanded = min(window) < 0 or max(window) > 1
            method = INTERPOLATIONS[methods[number]]
            views.append(AugmentParams(regions[number], placement, expanded, shifts[number], method, rows))
        return views

    def _rows(self, boxes: np.ndarray, source: Size, placement: ResizeTransform) -> np.ndarray:
        """Boxes of an image as rows of a label, cut off where the image ends."""
        left, top, right, bottom = placement.target
        corners = placement.to_input(boxes[:, 1:5] * (source * 2))
        corners = np.minimum(np.maximum(corners, (left, top, left, top)), (right, bottom, right, bottom))
        rows = boxes.astype(np.float32)
        rows[:, 1:5] = corners / self._scale
        size = corners[:, 2:] - corners[:, :2]
        return rows[size.min(axis=1) > LEAST_SIDE]

    def _single(self, source: EncodedImage, view: AugmentParams) -> np.ndarray:
        if view.placement and view.region == self._whole:
            # All around it is of one color: none, where the image covers the input.
            part, (left, top, right, bottom) = _render(source, view, view.placement), view.placement.target
            below, beside = self._spec.height - bottom, self._spec.width - right
            fill = (self._augment.pad.fill,) * 3
            return cv2.copyMakeBorder(part, top, below, left, beside, cv2.BORDER_CONSTANT, value=fill)
        canvas = self._background.copy()
        if view.expanded:
            canvas[: view.region.bottom, : view.region.right] = self._augment.pad.fill
        self._paint(canvas, source, view)
        return canvas

    def _render_mosaic(self, sources: Sequence[EncodedImage], views: Sequence[AugmentParams]) -> np.ndarray:
        canvas = np.empty_like(self._background)
        for source, view in zip(sources, views, strict=True):
            self._paint(canvas, source, view)
        return canvas

    def _paint(self, canvas: np.ndarray, source: EncodedImage, view: AugmentParams) -> None:
        """Paints what a view shows of its image onto the canvas, in place."""
        if view.placement:
            target = view.placement.target
            canvas[target.top : target.bottom, target.left : target.right] = _render(source, view, view.placement)


def _blend(first: Callable[[], np.ndarray], second: Callable[[], np.ndarray], share: float) -> np.ndarray:
    return cv2.addWeighted(first(), share, second(), 1 - share, 0)


def _render(source: EncodedImage, view: AugmentParams, placement: ResizeTransform) -> np.ndarray:
    """What a view shows of its image, as large as on the input."""
    part, size = _decoded(source, placement), placement.target.size
    fewer = part.shape[0] * part.shape[1] < size.width * size.height
    part = apply_jitter(part, view.shift) if fewer else part
    part = _resized(part, size, view.interpolation)
    part = part if fewer else apply_jitter(part, view.shift)
    return cv2.flip(part, 1) if placement.flipped else part


def _padded(sources: Sequence[EncodedImage]) -> np.ndarray:
    """Corners of the boxes of several images, [P, N, 4], nan where an image has fewer than N."""
    corners = np.full((len(sources), max([1, *(len(source.boxes) for source in sources)]), 4), np.nan)
    for row, source in zip(corners, sources, strict=True):
        row[: len(source.boxes)] = source.boxes[:, 1:5]
    return corners


def _part_for(tile: Size, source: Size, spec: InputSpec, draws: list[float]) -> Window:
    """A random part of an image in the proportions of a tile, distorted no more than the whole would be.

    draws: three of 0..1, for the zoom, x and y.
    """
    ratio = (tile.width / spec.width) / (tile.height / spec.height)
    if spec.resize_mode == "fit":
        ratio = (tile.width / tile.height) / (source.width / source.height)
    zoom, x, y = draws
    zoom = MOSAIC_ZOOM[0] + zoom * (MOSAIC_ZOOM[1] - MOSAIC_ZOOM[0])
    width, height = zoom * min(1.0, ratio), zoom * min(1.0, 1 / ratio)
    left, top = x * (1 - width), y * (1 - height)
    return left, top, left + width, top + height


def _resized(image: np.ndarray, size: Size, interpolation: int) -> np.ndarray:
    if interpolation != cv2.INTER_LANCZOS4:
        return cv2.resize(image, size, interpolation=interpolation)
    # OpenCV computes Lanczos in floats with vector instructions, in bytes without: 1.5 times as long.
    floats = cv2.resize(image.astype(np.float32), size, interpolation=interpolation)
    return cv2.addWeighted(floats, 1, floats, 0, 0, dtype=cv2.CV_8U)  # rounds, and stops at 0 and 255


def _decoded(source: EncodedImage, placement: ResizeTransform) -> np.ndarray:
    """The part of the image that is shown, uint8 BGR."""
    image = decode_reduced(source.data, placement.factor, source.what)
    left, top, right, bottom = placement.source
    if image.shape[1] < right or image.shape[0] < bottom:
        raise UserError(f"{source.what}: the image is smaller than its header says")
    return image[top:bottom, left:right]
