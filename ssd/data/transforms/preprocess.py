"""Images to the network input, without augmentation."""

from collections.abc import Sequence

import cv2
import numpy as np

from ssd.config.parts import InputSpec
from ssd.data.base import Size
from ssd.data.images import reduced
from ssd.data.transforms.resize import eval_resize
from ssd.utils.errors import UserError

LEVELS = np.arange(256, dtype=np.float32)


def preprocess(images: Sequence[np.ndarray], spec: InputSpec) -> np.ndarray:
    """float32 [B, 3, H, W]: images resized (bilinear) into the input as it says, then (x - mean) / std.

    images: HxWx3 uint8 RGB each, any sizes. Equals what the training loader makes of the same image without
    augmentation; eval_resize() returns where each lies.
    """
    # A channel has 256 possible values: looking them up is one pass, four times faster than array arithmetic.
    return _batch(
        images, spec, [(LEVELS - np.float32(m)) / np.float32(s) for m, s in zip(spec.mean, spec.std, strict=True)]
    )


def resize_only(images: Sequence[np.ndarray], spec: InputSpec) -> np.ndarray:
    """The same in levels 0..255, for a network that normalizes its input itself."""
    return _batch(images, spec, [LEVELS] * 3)


def _batch(images: Sequence[np.ndarray], spec: InputSpec, tables: Sequence[np.ndarray]) -> np.ndarray:
    """tables: of each channel, the value for every level 0..255."""
    batch = np.empty((len(images), 3, spec.height, spec.width), np.float32)
    for number, image in enumerate(images):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise UserError(f"image {number} is {image.dtype} {image.shape}, it must be HxWx3 uint8 RGB")
        for channel, plane in enumerate(cv2.split(_on_input(image, spec))):
            cv2.LUT(plane, tables[channel], dst=batch[number, channel])
    return batch


def _on_input(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """uint8 RGB of the input's size."""
    placement = eval_resize(Size(image.shape[1], image.shape[0]), spec)
    (left, top, right, bottom), target = placement.source, placement.target
    part = reduced(image, placement.factor)[top:bottom, left:right]
    resized = cv2.resize(part, target.size, interpolation=cv2.INTER_LINEAR)
    if target.size == (spec.width, spec.height):
        return resized
    canvas = np.empty((spec.height, spec.width, 3), np.uint8)
    canvas[:] = spec.border
    canvas[target.top : target.bottom, target.left : target.right] = resized
    return canvas
