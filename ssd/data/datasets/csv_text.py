"""Boxes in a CSV file, one object per line, as tables and spreadsheets export them."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssd.data.inspection.checks import name_problem
from ssd.utils.csv_cells import CsvWriter, original
from ssd.utils.errors import UserError

COLUMNS = ("image", "label", "xmin", "ymin", "xmax", "ymax")
SIZE = ("width", "height")  # of the image as it was annotated; not every file has them
# What headers call the columns, in small letters and with "_" for "-" and blanks; the first that is there counts.
NAMES = {
    "image": ("image", "image_path", "imagepath", "filepath", "file_path", "path", "filename", "file_name", "file",
              "img_path", "image_name", "imagename", "image_file", "img", "img_name", "image_id", "imageid", "name"),
    "label": ("label", "class", "class_name", "classname", "category", "category_name", "label_name", "labelname",
              "object", "name"),
    "xmin": ("xmin", "x_min", "x0", "x1", "left", "xtl", "bbox_xmin", "bbox_x_min", "bbox_x1"),
    "ymin": ("ymin", "y_min", "y0", "y1", "top", "ytl", "bbox_ymin", "bbox_y_min", "bbox_y1"),
    "xmax": ("xmax", "x_max", "x2", "right", "xbr", "bbox_xmax", "bbox_x_max", "bbox_x2", "x1"),
    "ymax": ("ymax", "y_max", "y2", "bottom", "ybr", "bbox_ymax", "bbox_y_max", "bbox_y2", "y1"),
    "width": ("width", "image_width", "img_width", "imagewidth"),
    "height": ("height", "image_height", "img_height", "imageheight"),
}  # fmt: skip
DELIMITERS = (",", ";", "\t", "|")
MAX_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Form:
    """How files are written. columns: for each of COLUMNS and SIZE the name in the header, or its position from 0 where
    there is no header; None or absent: found by NAMES. delimiter: None is found in the header."""

    columns: Mapping[str, str | int | None]
    header: bool
    delimiter: str | None

    def check(self) -> None:
        """Errors: UserError naming the key of `dataset`."""
        if unknown := set(self.columns) - {*COLUMNS, *SIZE}:
            raise UserError(
                f"dataset.columns.{min(unknown)}: there is no such column, only {', '.join((*COLUMNS, *SIZE))}"
            )
        delimiter = self.delimiter
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0 '):
            raise UserError(f"dataset.delimiter={delimiter!r}: expected one character such as , ; or a tab")
        if not self.header:
            self.positions()

    def positions(self) -> list[int | None]:
        """Of COLUMNS and SIZE, where there is no header."""
        places = [self.columns.get(name) for name in (*COLUMNS, *SIZE)]
        given = [place for place in places if place is not None]
        if None in places[: len(COLUMNS)] or not all(type(place) is int and place >= 0 for place in given):
            raise UserError(
                "dataset.header=false needs positions from 0 in dataset.columns, e.g. dataset.columns.image=0"
            )
        return places  # type: ignore[return-value]


@dataclass(frozen=True)
class Row:
    """One object; label is "" and box None for an image without objects. size: (width, height) of the image where
    the line has it."""

    line: int
    image: str
    label: str
    box: tuple[float, float, float, float] | None
    size: tuple[int, int] | None = None


def parse(text: str, form: Form, what: str) -> Iterator[Row]:
    """The lines of a file; UserError naming `what` and the line.

    A line whose class and corners are empty stands for an image without objects.
    """
    delimiter = form.delimiter or _delimiter(text.partition("\n")[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=False)
    try:
        places = _places(next(reader, []), form, delimiter, what) if form.header else form.positions()
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _row(cells, places, f"{what}: line {reader.line_num}", reader.line_num)
    except csv.Error as error:
        raise UserError(f"{what}: line {reader.line_num}: not CSV ({error})") from error


def write(names: Sequence[str], boxes: Sequence[np.ndarray], classes: Sequence[str]) -> str:
    """A file with the header COLUMNS; per image its name and boxes [N, 6] (class, corners, difficult) in pixels."""
    text = io.StringIO(newline="")
    writer = CsvWriter(text)
    writer.writerow(COLUMNS)
    for name, rows in zip(names, boxes, strict=True):
        for row in rows.tolist():
            writer.writerow([name, classes[int(row[0])], *(f"{value:.6f}" for value in row[1:5])])
        if not len(rows):
            writer.writerow([name, *[""] * 5])
    return text.getvalue()


def _delimiter(line: str) -> str:
    """The one that a line has most of, a comma where it has none."""
    return max(DELIMITERS, key=line.count)


def _places(header: Sequence[str], form: Form, delimiter: str, what: str) -> list[int | None]:
    """Positions of COLUMNS and SIZE; None for a size that is not there."""
    there = [name.strip() for name in header]
    usual = [re.sub(r"[-\s]+", "_", name).lower() for name in there]
    found: dict[str, int] = {}
    for column in (*COLUMNS, *SIZE):
        wanted = form.columns.get(column)
        if wanted is not None:
            if str(wanted) not in there:
                raise _missing(str(wanted), there, delimiter, what)
            found[column] = there.index(str(wanted))
        elif names := [name for name in NAMES[column] if name in usual and usual.index(name) not in found.values()]:
            found[column] = usual.index(names[0])
        elif column in COLUMNS:
            raise _missing(column, there, delimiter, what)
    if not found.keys() >= set(SIZE):  # one of the two says nothing
        found = {column: place for column, place in found.items() if column not in SIZE}
    return [found.get(column) for column in (*COLUMNS, *SIZE)]


def _missing(column: str, there: Sequence[str], delimiter: str, what: str) -> UserError:
    advice = "dataset.columns says which is which, dataset.header=false that there is none"
    if len(there) == 1 and (other := _delimiter(there[0])) != delimiter and other in there[0]:
        advice = f"dataset.delimiter={other!r} separates them"
    shown = ", ".join(there)[:200] or "nothing"
    return UserError(f"{what}: the header has no column {column!r} but {shown}; {advice}")


def _row(cells: Sequence[str], places: Sequence[int | None], where: str, line: int) -> Row:
    needed = max(place for place in places[: len(COLUMNS)] if place is not None) + 1
    if len(cells) < needed:
        raise UserError(f"{where}: has {len(cells)} columns, {needed} are needed")
    cells = ["" if place is None or place >= len(cells) else original(cells[place].strip()) for place in places]
    image, label, *corners = cells[: len(COLUMNS)]
    if not image or "\0" in image:
        raise UserError(f"{where}: names no image")
    size = _size(cells[len(COLUMNS) :], where)
    if not label and not any(corners):
        return Row(line, image, "", None, size)
    if not label:
        raise UserError(f"{where}: has a box but no class")
    if problem := name_problem(label):
        raise UserError(f"{where}: the class {label[:40]!r} {problem}")
    box = tuple(_number(corner) for corner in corners)
    # Beyond a million pixels nothing is a coordinate, and float32 would round it.
    if not all(abs(value) <= 1e6 for value in box):
        raise UserError(f"{where}: the box {', '.join(corners)[:60]!r} must be four numbers with a decimal point")
    return Row(line, image, label, box, size)  # type: ignore[arg-type]


def _size(cells: Sequence[str], where: str) -> tuple[int, int] | None:
    """Width and height in pixels; None where a line leaves them out."""
    if not any(cells):
        return None
    width, height = (_number(cell) for cell in cells)
    if width == height == 0:
        return None
    if not all(value.is_integer() and 0 < value <= 1e6 for value in (width, height)):
        raise UserError(f"{where}: width and height, {', '.join(cells)[:40]!r}, must be the image's in pixels")
    return int(width), int(height)


def _number(text: str) -> float:
    """nan for what is no number."""
    try:
        return float("nan") if "_" in text else float(text)
    except ValueError:
        return float("nan")
