"""Training batches as a picture: what the network sees, with the boxes it is told to find."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssd.data.placement import InputSpec
from ssd.detection.draw import draw_ground_truth

GAP = 4  # white pixels between two inputs


def draw_batch(batch: Any, spec: InputSpec, class_names: Sequence[str]) -> np.ndarray:
    """HxWx3 uint8 RGB: the inputs of a batch of any training loader in a grid, about square, with their boxes.

    batch: mx.io.DataBatch with data [B, 3, H, W] (bytes, or normalised floats) and label [B, M, 6].
    """
    inputs, labels = batch_pixels(batch, spec), batch.label[0].asnumpy()
    columns = math.ceil(math.sqrt(len(inputs) * spec.height / spec.width))
    columns = max(1, min(columns, len(inputs)))
    rows = math.ceil(len(inputs) / columns)
    height, width = spec.height + GAP, spec.width + GAP
    grid = np.full((rows * height - GAP, columns * width - GAP, 3), 255, np.uint8)
    for number, (image, label) in enumerate(zip(inputs, labels, strict=True)):
        boxes = label[label[:, 0] >= 0]
        boxes[:, 1:5] *= (spec.width, spec.height) * 2
        top, left = number // columns * height, number % columns * width
        grid[top : top + spec.height, left : left + spec.width] = draw_ground_truth(image, boxes, class_names)
    return grid


def batch_pixels(batch: Any, spec: InputSpec) -> np.ndarray:
    """uint8 RGB [B, H, W, 3] of a batch's data, its normalisation undone."""
    data = batch.data[0].asnumpy().transpose(0, 2, 3, 1)
    if data.dtype == np.uint8:
        return np.ascontiguousarray(data)
    levels = data * np.array(spec.std, np.float32) + np.array(spec.mean, np.float32)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
