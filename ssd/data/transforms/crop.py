"""Boxes and windows: where the augmentation looks at an image, and what becomes of its boxes. Pure functions.

A window is a rectangle (xmin, ymin, xmax, ymax) in shares of an image's width and height. (0, 0, 1, 1) is the whole
image; a window that reaches beyond it shows a border there, which makes objects small. Corners are float arrays
[..., 4] of the same form; rows of nan stand for no box. Several images [P, ...] are done at once: on arrays as small
as one image's, calling numpy takes longer than computing.
"""

import numpy as np

from ssd.config.augment import Augment, Crop

WHOLE = (0.0, 0.0, 1.0, 1.0)
LEAST_EXPANSION = 1.05  # below it a canvas is not worth its border: the image stays as it is


def relative_to(corners: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Corners [..., 4] in shares of the windows [..., 4] instead of the images, not clipped."""
    low, size = _low_and_size(windows)
    return (corners - np.concatenate([low, low], axis=-1)) / np.concatenate([size, size], axis=-1)


def inside(windows: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The windows that cover `parts`, given in shares of `windows`: the inverse of relative_to."""
    low, size = _low_and_size(windows)
    return np.concatenate([low, low], axis=-1) + parts * np.concatenate([size, size], axis=-1)


def centers_inside(corners: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Mask [..., N, W]: whether window w [..., W, 4] holds the center of box n [..., N, 4].

    Its right and lower edge are outside of it.
    """
    (low, high), (box_low, box_high) = _sides_of(corners, windows)
    centers = (box_low + box_high) / 2
    held = (low <= centers) & (centers < high)
    return held[0] & held[1]


def clipped(corners: np.ndarray, width: float, height: float) -> np.ndarray:
    """Corners [..., 4] cut off at 0 and at the width or height."""
    return np.clip(corners, 0, (width, height, width, height))


def sample_crops(corners: np.ndarray, aspects: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """Random views [P, 4] of images with boxes [P, N, 4]: perhaps expanded, then perhaps cropped.

    aspects: [P] width / height in pixels, which an expansion keeps. A crop is the first that qualifies for one of the
    samplers, which are tried in a random order; where none does there is no crop. SSD paper, section 2.2.
    """
    count, crop = len(aspects), augment.crop
    expanded, cropped = rng.random((2, count))
    windows = np.where(
        (expanded < augment.pad.probability)[:, None], expansions(rng.random((count, 3)), augment.pad.max_scale), WHOLE
    )
    waiting = np.flatnonzero(cropped < crop.probability)
    if not len(waiting):
        return windows
    overlaps = rng.permuted(np.tile(crop.overlaps, (count, 1)), axis=1)
    draws = rng.random((count, len(crop.overlaps), crop.trials, 4))
    seen = clipped(relative_to(corners, windows[:, None]), 1, 1)
    for sampler in range(len(crop.overlaps)):
        candidates = crop_candidates(draws[waiting, sampler], aspects[waiting], crop)
        good = valid_crops(candidates, seen[waiting], overlaps[waiting, sampler])
        found = good.any(axis=1)
        chosen = waiting[found]
        windows[chosen] = inside(windows[chosen], candidates[found, good[found].argmax(axis=1)])
        waiting = waiting[~found]
        if not len(waiting):
            break
    return windows


def expansions(draws: np.ndarray, max_scale: float) -> np.ndarray:
    """Windows [P, 4] up to max_scale times as wide and high as the image, which lies somewhere in them.

    draws: [P, 3] of 0..1 for the scale and the place. SSD paper, section 3.6.
    """
    scale = 1 + draws[:, :1] * (max_scale - 1)
    scale[scale < LEAST_EXPANSION] = 1
    low = -draws[:, 1:] * (scale - 1)
    return np.concatenate([low, low + scale], axis=1)


def crop_candidates(draws: np.ndarray, aspects: np.ndarray, crop: Crop) -> np.ndarray:
    """Windows [P, T, 4] inside images of these aspects [P] from draws [P, T, 4]: side, aspect ratio, x and y.

    The side is the geometric mean of the shares of width and height; the ratio of the two is uniform between the
    bounds on width / height in pixels, made narrower where the crop would not fit.
    """
    scale, shape, *corner = np.moveaxis(draws, -1, 0)
    side = crop.scales[0] + scale * (crop.scales[1] - crop.scales[0])
    area = side * side
    lowest = np.maximum(area, crop.aspect_ratios[0] / aspects[:, None])
    highest = np.minimum(1 / area, crop.aspect_ratios[1] / aspects[:, None])
    stretch = np.sqrt(lowest + shape * (highest - lowest))
    size = np.minimum([side * stretch, side / stretch], 1)
    low = corner * (1 - size)
    return np.moveaxis(np.concatenate([low, low + size]), 0, -1)


def valid_crops(windows: np.ndarray, corners: np.ndarray, overlaps: np.ndarray) -> np.ndarray:
    """Mask [P, W]: windows [P, W, 4] that have at least the IoU overlaps [P] with one of the boxes [P, N, 4] of the
    image, and hold the center of one. Where there are no boxes, every window does."""
    (low, high), (box_low, box_high) = _sides_of(corners, windows)
    both = np.maximum(np.minimum(high, box_high) - np.maximum(low, box_low), 0)
    size, box_size = high - low, box_high - box_low
    shared = both[0] * both[1]
    union = size[0] * size[1] + box_size[0] * box_size[1] - shared
    # Compared as products, so that a box without area divides nothing.
    near = (shared >= overlaps[:, None, None] * union).any(axis=1)
    without = np.isnan(corners[..., 0]).all(axis=1)
    return near & centers_inside(corners, windows).any(axis=1) | without[:, None]


def _low_and_size(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low = windows[..., :2]
    return low, windows[..., 2:] - low


def _sides_of(corners: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners of windows [2, 2, ..., 1, W] and of boxes [2, 2, ..., N, 1]: the axes come first."""
    sides = [np.moveaxis(values, -1, 0).reshape(2, 2, *values.shape[:-1]) for values in (windows, corners)]
    return sides[0][..., None, :], sides[1][..., None]
