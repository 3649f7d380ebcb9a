"""Boxes in a CSV file, one object per line, as tables and spreadsheets export them."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssd.errors import UserError

COLUMNS = ("image", "label", "xmin", "ymin", "xmax", "ymax")
MAX_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Row:
    """One object; label is "" and box None for a picture without objects."""

    line: int
    image: str
    label: str
    box: tuple[float, float, float, float] | None


def parse(text: str, columns: Mapping[str, str | int], header: bool, delimiter: str, what: str) -> Iterator[Row]:
    """The lines of a file; UserError naming `what` and the line.

    columns: for each of COLUMNS the name in the header, or its position from 0 where there is none. A line whose class
    and corners are empty stands for a picture without objects.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=False)
    try:
        places = _places(next(reader, []), columns, what) if header else _numbers(columns)
        for words in reader:
            if any(word.strip() for word in words):
                yield _row(words, places, f"{what}: line {reader.line_num}", reader.line_num)
    except csv.Error as error:
        raise UserError(f"{what}: line {reader.line_num}: not CSV ({error})") from error


def write(names: Sequence[str], boxes: Sequence[np.ndarray], classes: Sequence[str]) -> str:
    """A file with the header COLUMNS; per picture its name and boxes [N, 6] (class, corners, difficult) in pixels."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, rows in zip(names, boxes, strict=True):
        for row in rows.tolist():
            writer.writerow([name, classes[int(row[0])], *(f"{value:.6f}" for value in row[1:5])])
        if not len(rows):
            writer.writerow([name, *[""] * 5])
    return text.getvalue()


def _places(header: Sequence[str], columns: Mapping[str, str | int], what: str) -> list[int]:
    there = [name.strip() for name in header]
    wanted = [str(columns[name]) for name in COLUMNS]
    missing = [name for name in wanted if name not in there]
    if missing:
        raise UserError(
            f"{what}: the header has no column {missing[0]!r} but {', '.join(there)[:200] or 'nothing'}; "
            "dataset.columns says which is which, dataset.header=false that there is none"
        )
    return [there.index(name) for name in wanted]


def _numbers(columns: Mapping[str, str | int]) -> list[int]:
    places = [columns[name] for name in COLUMNS]
    if not all(type(place) is int and place >= 0 for place in places):
        raise UserError("dataset.header=false needs positions from 0 in dataset.columns, e.g. dataset.columns.image=0")
    return places  # type: ignore[return-value]


def _row(words: Sequence[str], places: Sequence[int], where: str, line: int) -> Row:
    if len(words) <= max(places):
        raise UserError(f"{where}: has {len(words)} columns, {max(places) + 1} are needed")
    image, label, *corners = (words[place].strip() for place in places)
    if not image or "\0" in image:
        raise UserError(f"{where}: names no image")
    if not label and not any(corners):
        return Row(line, image, "", None)
    if not label:
        raise UserError(f"{where}: has a box but no class")
    try:
        box = tuple(float(corner) for corner in corners)
    except ValueError:
        box = (float("nan"),) * 4
    # Beyond a million pixels nothing is a coordinate, and float32 would round it.
    if not all(abs(value) <= 1e6 for value in box):
        raise UserError(f"{where}: the box {', '.join(corners)[:60]!r} must be four numbers")
    return Row(line, image, label, box)  # type: ignore[arg-type]
