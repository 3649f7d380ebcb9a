"""Many images as one: annotated samples, and training batches as the network sees them."""

from collections.abc import Sequence

import cv2
import numpy as np

from ssd.data.base import Sample
from ssd.data.images import decode
from ssd.detection.draw import draw_ground_truth

GAP = 6  # pixels between images
BACKGROUND = 255
LEAST_SIDE = 200  # images of a batch are shown at least this high, so that names fit in


def draw_batch(pixels: np.ndarray, label: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """A training batch with its boxes, HxWx3 uint8 RGB: the network input and its ground truth.

    pixels: uint8 [B, H, W, 3], RGB. label: [B, M, 5 or 6] rows (class, xmin, ymin, xmax, ymax[, difficult]) as shares
    0..1 of the input, padded with rows of class -1.
    """
    tiles = []
    for image, rows in zip(pixels, label, strict=True):
        zoom = max(1, -(-LEAST_SIDE // image.shape[0]))  # whole: the network's pixels stay visible as such
        large = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
        boxes = rows[rows[:, 0] >= 0].astype(np.float32)
        boxes[:, 1:5] *= (large.shape[1], large.shape[0]) * 2
        tiles.append(draw_ground_truth(large, boxes, classes))
    return grid(tiles, columns=max(1, min(4, 1280 // tiles[0].shape[1])))


def draw_sample(sample: Sample, classes: Sequence[str], width: int) -> np.ndarray:
    """The image of a sample with its boxes, HxWx3 uint8 RGB, scaled to this width. UserError if it is unreadable."""
    image = decode(sample.read(), str(sample.path))
    scale = width / image.shape[1]
    small = cv2.resize(image, (width, max(1, round(image.shape[0] * scale))), interpolation=cv2.INTER_AREA)
    boxes = sample.boxes.copy()
    boxes[:, 1:5] *= scale
    return draw_ground_truth(small, boxes, classes)


def grid(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """The images (HxWx3 uint8, of any sizes) in rows of `columns`, on white."""
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    width = max(sum(tile.shape[1] + GAP for tile in row) for row in rows) - GAP
    heights = [max(tile.shape[0] for tile in row) for row in rows]
    canvas = np.full((sum(heights) + GAP * (len(rows) - 1), width, 3), BACKGROUND, np.uint8)
    y = 0
    for row, height in zip(rows, heights, strict=True):
        x = 0
        for tile in row:
            canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
            x += tile.shape[1] + GAP
        y += height + GAP
    return canvas
