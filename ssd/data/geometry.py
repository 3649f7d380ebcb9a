"""Boxes and windows: where the augmentation looks at a picture, and what becomes of its boxes. Pure functions.

A window is a rectangle (xmin, ymin, xmax, ymax) in shares of a picture's width and height. (0, 0, 1, 1) is the whole
picture; a window that reaches beyond it shows a border there, which makes objects small. Corners are float arrays
[..., 4] of the same form.
"""

import numpy as np

from ssd.data.augment import Augment, Crop

Window = tuple[float, float, float, float]

WHOLE: Window = (0.0, 0.0, 1.0, 1.0)
LEAST_EXPANSION = 1.05  # below it a canvas is not worth its border: the picture stays as it is


def relative_to(corners: np.ndarray, window: Window) -> np.ndarray:
    """Corners [..., 4] in shares of the window instead of the picture, not clipped."""
    left, top, right, bottom = window
    return (corners - (left, top, left, top)) / (right - left, bottom - top, right - left, bottom - top)


def inside(window: Window, part: Window) -> Window:
    """The window that covers `part`, given in shares of `window`: the inverse of relative_to."""
    left, top, right, bottom = window
    width, height = right - left, bottom - top
    return left + part[0] * width, top + part[1] * height, left + part[2] * width, top + part[3] * height


def centres_inside(corners: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Mask [N, W]: whether window w [W, 4] holds the centre of box n [N, 4] (its right and lower edge not counted)."""
    (low, high), (box_low, box_high) = windows.T.reshape(2, 2, 1, -1), corners.T.reshape(2, 2, -1, 1)
    centres = (box_low + box_high) / 2
    held = (low <= centres) & (centres < high)
    return held[0] & held[1]


def clipped(corners: np.ndarray, width: float, height: float) -> np.ndarray:
    """Corners [..., 4] cut off at 0 and at the width or height."""
    return np.clip(corners, 0, (width, height, width, height))


def sample_window(corners: np.ndarray, aspect: float, augment: Augment, rng: np.random.Generator) -> Window:
    """A random view of a picture with boxes [N, 4] (shares of it): perhaps expanded, then perhaps cropped.

    aspect: width / height of the picture in pixels, which an expansion keeps.
    """
    window = WHOLE
    if rng.random() < augment.pad.probability:
        window = expansion(rng.random(3), augment.pad.max_scale)
    if rng.random() < augment.crop.probability:
        seen = corners if window is WHOLE else clipped(relative_to(corners, window), 1, 1)
        part = sample_crop(seen, aspect, augment.crop, rng)
        if part is not None:
            window = inside(window, part)
    return window


def expansion(draws: np.ndarray, max_scale: float) -> Window:
    """A window up to max_scale times as wide and high as the picture, which lies somewhere in it.

    draws: [3] of 0..1 for the scale and the place. SSD paper, section 3.6.
    """
    scale = 1 + float(draws[0]) * (max_scale - 1)
    if scale < LEAST_EXPANSION:
        return WHOLE
    left, top = (-float(draw) * (scale - 1) for draw in draws[1:])
    return left, top, left + scale, top + scale


def sample_crop(corners: np.ndarray, aspect: float, crop: Crop, rng: np.random.Generator) -> Window | None:
    """The first crop that qualifies, the samplers tried in a random order; None when no trial does.

    A crop qualifies for the sampler with lowest overlap o when some box has at least IoU o with it and some box has
    its centre in it; without boxes every crop does. SSD paper, section 2.2; corners [N, 4] in shares, inside 0..1.
    """
    for overlap in rng.permutation(crop.overlaps):
        candidates = crop_candidates(rng.random((crop.trials, 4)), aspect, crop)
        good = qualifying(candidates, corners, float(overlap))
        if good.any():
            left, top, right, bottom = candidates[good.argmax()].tolist()
            return left, top, right, bottom
    return None


def crop_candidates(draws: np.ndarray, aspect: float, crop: Crop) -> np.ndarray:
    """Windows [T, 4] inside the picture from draws [T, 4] of 0..1: side, aspect ratio, x and y.

    The side is the geometric mean of the shares of width and height; the ratio of the two is uniform between the
    bounds on width / height in pixels, made narrower where the crop would not fit.
    """
    scale, shape, *corner = draws.T
    side = crop.scales[0] + scale * (crop.scales[1] - crop.scales[0])
    area = side * side
    lowest = np.maximum(area, crop.aspect_ratios[0] / aspect)
    highest = np.minimum(1 / area, crop.aspect_ratios[1] / aspect)
    stretch = np.sqrt(lowest + shape * (highest - lowest))
    size = np.minimum([side * stretch, side / stretch], 1)
    low = corner * (1 - size)
    return np.concatenate([low, low + size]).T


def qualifying(windows: np.ndarray, corners: np.ndarray, overlap: float) -> np.ndarray:
    """Mask [W]: windows [W, 4] that have IoU >= overlap with one of the boxes [N, 4] and hold one's centre."""
    if not len(corners):
        return np.ones(len(windows), bool)
    (low, high), (box_low, box_high) = windows.T.reshape(2, 2, 1, -1), corners.T.reshape(2, 2, -1, 1)
    both = np.maximum(np.minimum(high, box_high) - np.maximum(low, box_low), 0)
    size, box_size = high - low, box_high - box_low
    shared = both[0] * both[1]
    union = size[0] * size[1] + box_size[0] * box_size[1] - shared
    # Compared as products, so that a box without area divides nothing.
    return (shared >= overlap * union).any(axis=0) & centres_inside(corners, windows).any(axis=0)
