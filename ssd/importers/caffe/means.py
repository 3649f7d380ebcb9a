"""What a network subtracts from its images: one level per channel, or a whole image (mean.binaryproto)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from ssd.importers.caffe.graph import format_shape
from ssd.importers.caffe.wire import read_mean
from ssd.utils.errors import UserError


@dataclass(frozen=True)
class Mean:
    """levels: RGB, of 0..255. image: float32 [3, H, W], RGB, subtracted beside them by the graph; None for none."""

    levels: list[float]
    image: np.ndarray | None


def find_mean(given: Sequence[float] | str | None, channels: str, size: tuple[int, int]) -> Mean:
    """given: a file in the network's order of channels, or three levels in RGB. size: (height, width) of the input.

    As in Caffe a larger mean image is cut to its middle. Errors: UserError.
    """
    if given is None:
        return Mean([0.0, 0.0, 0.0], None)
    if isinstance(given, str):
        return _of_image(Path(given), channels, size)
    levels = [float(level) for level in given]
    if len(levels) != 3 or not all(map(isfinite, levels)):
        raise UserError(f"job.mean={list(given)}: expected a file or three numbers, red, green, blue")
    return Mean(levels, None)


def _of_image(path: Path, channels: str, size: tuple[int, int]) -> Mean:
    image = read_mean(path)
    if image.shape[0] != 3:
        raise UserError(f"{path}: a mean of {image.shape[0]} channels, expected 3")
    image = image[::-1] if channels == "BGR" else image
    levels = image.mean(axis=(1, 2), dtype=np.float64)
    if np.ptp(image, axis=(1, 2)).max() < 1e-6 * max(1, abs(image).max()):
        return Mean(levels.tolist(), None)
    gaps = [image.shape[axis + 1] - size[axis] for axis in (0, 1)]
    if min(gaps) < 0:
        raise UserError(
            f"{path}: a mean image of {format_shape(image.shape[1:])} is smaller than the input {format_shape(size)}"
        )
    top, left = gaps[0] // 2, gaps[1] // 2
    middle = image[:, top : top + size[0], left : left + size[1]]
    return Mean(levels.tolist(), (middle - levels[:, None, None]).astype(np.float32))
