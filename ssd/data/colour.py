"""Random changes of colour, as the original makes them: in HLS, then contrast."""

from dataclasses import dataclass

import cv2
import numpy as np

from ssd.data.augment import Augment, Jitter

LEVELS = np.arange(256)
HIGHEST = (180, 255, 255)  # of OpenCV's H, L and S in 8 bits; values stop there, hues do not wrap around


@dataclass(frozen=True)
class Shift:
    """Added to H, L and S of 0..180, 0..255, 0..255, and the factor on every channel; 0, 0, 0 and 1 change nothing."""

    hue: int
    illumination: int
    saturation: int
    contrast: float
    contrast_first: bool


def sample_shift(augment: Augment, rng: np.random.Generator) -> Shift:
    amounts = [
        _draw(jitter, rng) for jitter in (augment.hue, augment.illumination, augment.saturation, augment.contrast)
    ]
    # Cut to whole levels, towards zero, as the original does.
    hue, illumination, saturation = (int(amount) for amount in amounts[:3])
    return Shift(hue, illumination, saturation, 1 + amounts[3], rng.random() < augment.contrast_first)


def shifted(image: np.ndarray, shift: Shift) -> np.ndarray:
    """image: HxWx3 uint8 BGR; returns a new one, or the same where nothing changes."""
    if shift.contrast_first:
        return _shift_hls(_stretch(image, shift.contrast), shift)
    return _stretch(_shift_hls(image, shift), shift.contrast)


def _draw(jitter: Jitter, rng: np.random.Generator) -> float:
    amount, chosen = rng.random(2)
    return float((2 * amount - 1) * jitter.amount) if chosen < jitter.probability else 0.0


def _stretch(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=factor) if factor != 1 else image


def _shift_hls(image: np.ndarray, shift: Shift) -> np.ndarray:
    amounts = (shift.hue, shift.illumination, shift.saturation)
    if not any(amounts):
        return image
    planes = list(cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HLS)))
    for channel, (amount, highest) in enumerate(zip(amounts, HIGHEST, strict=True)):
        if amount:
            planes[channel] = cv2.LUT(planes[channel], np.clip(LEVELS + amount, 0, highest).astype(np.uint8))
    return cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HLS2BGR)
