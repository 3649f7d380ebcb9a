"""Random changes of color, as the original makes them: in HLS, then contrast."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ssd.config.augment import Augment

HIGHEST: Any = (180, 255, 255, 0)  # of OpenCV's H, L and S in 8 bits; values stop there, hues do not wrap around


@dataclass(frozen=True)
class ColorJitter:
    """Added to H, L and S of 0..180, 0..255, 0..255, and the factor on every channel; 0, 0, 0 and 1 change nothing."""

    hue: int
    illumination: int
    saturation: int
    contrast: float
    contrast_first: bool


def sample_shifts(augment: Augment, count: int, rng: np.random.Generator) -> list[ColorJitter]:
    """One for each of `count` images."""
    jitters = (augment.hue, augment.illumination, augment.saturation, augment.contrast)
    amounts = rng.uniform(-1, 1, (count, 4)) * [jitter.amount for jitter in jitters]
    amounts *= rng.random((count, 4)) < [jitter.probability for jitter in jitters]
    first = rng.random(count) < augment.contrast_first
    # Cut to whole levels, towards zero, as the original does.
    return [
        ColorJitter(int(hue), int(illumination), int(saturation), 1 + contrast, earlier)
        for (hue, illumination, saturation, contrast), earlier in zip(amounts.tolist(), first.tolist(), strict=True)
    ]


def apply_jitter(image: np.ndarray, shift: ColorJitter) -> np.ndarray:
    """image: HxWx3 uint8 BGR; returns a new one, or the same where nothing changes."""
    if shift.contrast_first:
        return _shift_hls(_stretch(image, shift.contrast), shift)
    return _stretch(_shift_hls(image, shift), shift.contrast)


def _stretch(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=factor) if factor != 1 else image


def _shift_hls(image: np.ndarray, shift: ColorJitter) -> np.ndarray:
    amounts = (shift.hue, shift.illumination, shift.saturation)
    if not any(amounts):
        return image
    more: Any = (*(max(0, amount) for amount in amounts), 0)
    less: Any = (*(max(0, -amount) for amount in amounts), 0)
    hls = cv2.cvtColor(image, cv2.COLOR_BGR2HLS)
    # Whole arrays at once, which stop at 0 and 255 by themselves: half of the time that a table takes.
    cv2.add(hls, more, dst=hls)
    cv2.subtract(hls, less, dst=hls)
    if shift.hue > 0:
        cv2.min(hls, HIGHEST, dst=hls)
    return cv2.cvtColor(hls, cv2.COLOR_HLS2BGR, dst=hls)
