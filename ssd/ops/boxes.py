"""Geometry of axis-aligned boxes: float arrays [..., 4] of (xmin, ymin, xmax, ymax), continuous coordinates, any unit.

Width is xmax - xmin, without the +1 of inclusive pixels. A box with no area (xmax <= xmin or ymax <= ymin)
overlaps nothing: its IoU is 0, never nan.
"""

import numpy as np


def area(boxes: np.ndarray) -> np.ndarray:
    """Area of boxes [..., 4] -> [...]; an inverted box has area 0."""
    sides = np.maximum(boxes[..., 2:4] - boxes[..., 0:2], 0)
    return sides[..., 0] * sides[..., 1]


def iou_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes that broadcast against each other, [..., 4] and [..., 4] -> [...]."""
    width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0])
    height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1])
    overlap = np.maximum(width, 0) * np.maximum(height, 0)
    union = area(first) + area(second) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def iou_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of `first` [N, 4] with every box of `second` [M, 4] -> [N, M]."""
    return iou_pairs(first[:, None, :], second[None, :, :])
