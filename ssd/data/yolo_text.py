"""YOLO's text files: one line `class cx cy width height` per object, the four as shares of the picture's size."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ssd.data.dataset import no_boxes
from ssd.data.files import read_text
from ssd.errors import UserError

MAX_BYTES = 10_000_000  # of a label file: some 200,000 objects
MAX_DESCRIPTION = 1_000_000  # of a data.yaml or names file


def parse(text: str, what: str) -> list[tuple[int, float, float, float, float]]:
    """(class, cx, cy, width, height) of each line; UserError naming `what` and the line."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
            fits = len(values) == 5 and values[0] == int(values[0]) >= 0 and all(map(math.isfinite, values))
        except (ValueError, OverflowError):
            fits = False
        if not fits:
            raise UserError(f"{what}: line {number}, {line.strip()[:60]!r}, must be: class cx cy width height")
        # Shares far beyond the picture are pixels, or a mistake.
        if max(map(abs, values[1:])) > 10:
            raise UserError(
                f"{what}: line {number}, {line.strip()[:60]!r}: cx cy width height must be shares 0..1 of the picture"
            )
        rows.append((int(values[0]), *values[1:]))
    return rows  # type: ignore[return-value]


def corners(rows: Sequence[tuple[int, float, float, float, float]], size: tuple[int, int]) -> list[tuple[float, ...]]:
    """(class, xmin, ymin, xmax, ymax, difficult = 0) in pixels of a picture of size (width, height)."""
    width, height = size
    return [
        (index, (cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height, 0)
        for index, cx, cy, w, h in rows
    ]


def write(boxes: np.ndarray, size: tuple[int, int]) -> str:
    """The lines of boxes [N, 6] (class, xmin, ymin, xmax, ymax, difficult) in pixels of a picture (width, height)."""
    lines = []
    for index, xmin, ymin, xmax, ymax, *_ in (boxes if len(boxes) else no_boxes()).astype(np.float64).tolist():
        x, y, width, height = (xmin + xmax) / 2, (ymin + ymax) / 2, xmax - xmin, ymax - ymin
        shares = (x / size[0], y / size[1], width / size[0], height / size[1])
        lines.append(f"{int(index)} {' '.join(f'{share:.9f}' for share in shares)}\n")
    return "".join(lines)


def read_description(file: Path) -> dict[str, Any]:
    """A data.yaml as a dict; UserError when it is none."""
    text = read_text(file, MAX_DESCRIPTION, "a data.yaml")
    try:
        node = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{file}: not YAML ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(node, dict):
        raise UserError(f"{file}: must hold keys such as train, val and names")
    return node


def class_names(names: Any, where: str) -> tuple[str, ...]:
    """Names from a list, or from a dict that numbers them 0, 1, 2 ...; UserError when they are neither."""
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise UserError(f"{where}: names must be numbered 0, 1, 2 ... without a gap")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, (list, tuple)) or not names:
        raise UserError(f"{where}: names must be a list of class names")
    found = tuple(str(name).strip() for name in names)
    if "" in found or len(set(found)) < len(found):
        raise UserError(f"{where}: names must be different and not empty")
    return found
