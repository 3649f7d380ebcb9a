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
    """A data.yaml as a dict; UserError when it is none.

    names are the text that is written there: to YAML no, 010, 12:30 and ~ are a truth value, numbers and nothing.
    """
    text = read_text(file, MAX_DESCRIPTION, "a data.yaml")
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        node = None if root is None else loader.construct_document(root)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{file}: not YAML ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(node, dict):
        raise UserError(f"{file}: must hold keys such as train, val and names")
    for key, value in root.value:
        if key.value == "names":
            node["names"] = _as_written(value)
    return node


def _as_written(node: yaml.Node) -> Any:
    """A scalar as text, a list or dict of scalars with their text; what is nested deeper is no name: a list."""

    def text(child: yaml.Node) -> Any:
        return child.value if isinstance(child, yaml.ScalarNode) else []

    if isinstance(node, yaml.MappingNode):
        return {text(key) if isinstance(key, yaml.ScalarNode) else "": text(value) for key, value in node.value}
    return [text(child) for child in node.value] if isinstance(node, yaml.SequenceNode) else text(node)
