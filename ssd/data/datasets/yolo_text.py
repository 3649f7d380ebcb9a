"""YOLO's text files: one line `class cx cy width height` per object, the four as shares of the image's size."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssd.data.base import empty_boxes
from ssd.utils.errors import UserError
from ssd.utils.plain_yaml import read_yaml

MAX_BYTES = 10_000_000  # of a label file: some 200,000 objects
MAX_NAMES = 1_000_000  # of a list of names


def parse(text: str, what: str) -> list[tuple[int, float, float, float, float]]:
    """(class, cx, cy, width, height) of each line; UserError naming `what` and the line."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            values = [float(field) for field in fields]
            fits = len(values) == 5 and values[0] == int(values[0]) >= 0 and all(map(math.isfinite, values))
        except (ValueError, OverflowError):
            fits = False
        if not fits:
            raise UserError(f"{what}: line {number}, {line.strip()[:60]!r}, must be: class cx cy width height")
        # Shares far beyond the image are pixels, or a mistake.
        if max(map(abs, values[1:])) > 10:
            raise UserError(
                f"{what}: line {number}, {line.strip()[:60]!r}: cx cy width height must be shares 0..1 of the image"
            )
        rows.append((int(values[0]), *values[1:]))
    return rows  # type: ignore[return-value]


def corners(rows: Sequence[tuple[int, float, float, float, float]], size: tuple[int, int]) -> list[tuple[float, ...]]:
    """(class, xmin, ymin, xmax, ymax, difficult = 0) in pixels of an image of size (width, height)."""
    width, height = size
    return [
        (index, (cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height, 0)
        for index, cx, cy, w, h in rows
    ]


def write(boxes: np.ndarray, size: tuple[int, int]) -> str:
    """The lines of boxes [N, 6] (class, xmin, ymin, xmax, ymax, difficult) in pixels of an image (width, height)."""
    lines = []
    for index, xmin, ymin, xmax, ymax, *_ in (boxes if len(boxes) else empty_boxes()).astype(np.float64).tolist():
        x, y, width, height = (xmin + xmax) / 2, (ymin + ymax) / 2, xmax - xmin, ymax - ymin
        shares = (x / size[0], y / size[1], width / size[0], height / size[1])
        lines.append(f"{int(index)} {' '.join(f'{share:.9f}' for share in shares)}\n")
    return "".join(lines)


def read_description(file: Path) -> dict[str, Any]:
    """A data.yaml as a dict, its names as the text that is written there; UserError when it is none."""
    node = read_yaml(file, "a data.yaml", written=("names",))
    if not isinstance(node, dict):
        raise UserError(f"{file}: must hold keys such as train, val and names")
    return node
