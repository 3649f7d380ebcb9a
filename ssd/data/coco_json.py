"""One COCO instances file (cocodataset.org, "Data format"): JSON to rows and back.

The file is walked element by element and only what detection needs is kept, because the masks make up most of it: the
450 MB of instances_train2017.json take some seconds and little more memory than their text.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from json.decoder import JSONDecodeError
from pathlib import Path
from typing import Any

import numpy as np

from ssd.data.files import read_text
from ssd.errors import UserError

MAX_BYTES = 4_000_000_000
SPACE = re.compile(r"[ \t\n\r]*")
WHAT = "a COCO instances file"


@dataclass(frozen=True)
class Picture:
    """An entry of `images`."""

    id: int
    file: str
    width: int
    height: int


@dataclass(frozen=True)
class Instances:
    """What a file says. categories: name by id, in the order of ids.

    boxes: per picture id a list of (category id, x, y, width, height, crowd).
    """

    pictures: list[Picture]
    categories: dict[int, str]
    boxes: dict[int, list[tuple[int, float, float, float, float, int]]]


def read(path: Path) -> Instances:
    """Reads a file; UserError naming it, the list and the entry when something is wrong."""
    return parse(read_text(path, MAX_BYTES, WHAT), str(path))


def parse(text: str, what: str) -> Instances:
    """Reads the text of a file; UserError starting with `what`."""
    pictures: dict[int, Picture] = {}
    categories: dict[int, str] = {}
    boxes: dict[int, list[tuple[int, float, float, float, float, int]]] = {}
    seen = set()
    for section, number, entry in _entries(text, what):
        where = f"{what}: {section}[{number}]"
        seen.add(section)
        if number < 0:
            continue
        if not isinstance(entry, dict):
            raise UserError(f"{where} is no object with names and values")
        if section == "images":
            picture = _picture(entry, where)
            if pictures.setdefault(picture.id, picture) is not picture:
                raise UserError(f"{where}: image id {picture.id} is used twice")
        elif section == "categories":
            number = _whole(entry, "id", where)
            if categories.setdefault(number, _string(entry, "name", where)) != entry["name"].strip():
                raise UserError(f"{where}: category id {number} is used twice")
        else:
            image, row = _annotation(entry, where)
            boxes.setdefault(image, []).append(row)
    for section in ("images", "categories", "annotations"):
        if section not in seen:
            raise UserError(f"{what}: has no list {section!r}, so it is no COCO instances file")
    if stray := boxes.keys() - pictures.keys():
        raise UserError(f"{what}: annotations speak of image id {min(stray)}, which is not in images")
    if unknown := {row[0] for rows in boxes.values() for row in rows} - categories.keys():
        raise UserError(f"{what}: annotations speak of category id {min(unknown)}, which is not in categories")
    if len(set(categories.values())) < len(categories):
        raise UserError(f"{what}: two categories have the same name")
    return Instances(list(pictures.values()), dict(sorted(categories.items())), boxes)


def write(pictures: Sequence[Picture], rows: Sequence[np.ndarray], categories: dict[int, str]) -> str:
    """The JSON of pictures with boxes; `parse` reads it back.

    rows: per picture [N, 6 or 7] (class, xmin, ymin, xmax, ymax, difficult[, crowd]), as Sample.ground_truth() gives
    them; class c is the c-th of categories.
    """
    ids = list(categories)
    annotations: list[dict[str, Any]] = []
    for picture, boxes in zip(pictures, rows, strict=True):
        for row in boxes.tolist():
            annotations.append(annotation_entry(len(annotations) + 1, picture.id, ids[int(row[0])], row))
    images = [picture_entry(picture) for picture in pictures]
    named = [{"id": number, "name": name} for number, name in categories.items()]
    return json.dumps({"images": images, "annotations": annotations, "categories": named})


def picture_entry(picture: Picture) -> dict[str, Any]:
    """An entry of `images`."""
    return {"id": picture.id, "file_name": picture.file, "width": picture.width, "height": picture.height}


def annotation_entry(number: int, image: int, category: int, row: Sequence[float]) -> dict[str, Any]:
    """An entry of `annotations`: its id, those of picture and category, and a row of boxes as `write` takes them."""
    width, height = row[3] - row[1], row[4] - row[2]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [round(value, 6) for value in (row[1], row[2], width, height)],
        "area": round(width * height, 6),
        "iscrowd": int(len(row) > 6 and row[6] > 0),
    }


def _entries(text: str, what: str) -> Iterator[tuple[str, int, Any]]:
    """(list, number, entry) of the lists images, annotations and categories; number -1 opens a list."""
    decoder = json.JSONDecoder()

    def value(at: int) -> tuple[Any, int]:
        try:
            return decoder.raw_decode(text, at)
        except JSONDecodeError as error:
            raise damaged(error.pos, error.msg) from error
        except (ValueError, RecursionError) as error:
            raise damaged(at, type(error).__name__) from error

    def damaged(at: int, reason: str) -> UserError:
        return UserError(f"{what}: not JSON at line {text.count(chr(10), 0, at) + 1}, character {at} ({reason})")

    def after(at: int, allowed: str) -> tuple[str, int]:
        """The next character that is no space, which must be one of `allowed`, and the place behind it."""
        at = SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at >= len(text) or text[at] not in allowed:
            raise damaged(at, f"expected one of {' '.join(allowed)}" if at < len(text) else "it ends too early")
        return text[at], at + 1

    def skip(at: int) -> int:
        return SPACE.match(text, at).end()  # type: ignore[union-attr]

    _, at = after(0, "{")
    mark = ","
    if text[skip(at) : skip(at) + 1] == "}":
        mark, at = after(at, "}")
    while mark == ",":
        start = skip(at)
        key, at = value(start)
        if not isinstance(key, str):
            raise damaged(start, "expected a name in quotes")
        _, at = after(at, ":")
        at = skip(at)
        if key in ("images", "annotations", "categories"):
            _, at = after(at, "[")
            yield key, -1, None
            number, mark = 0, ","
            if text[skip(at) : skip(at) + 1] == "]":
                mark, at = after(at, "]")
            while mark == ",":
                entry, at = value(skip(at))
                yield key, number, entry
                number += 1
                mark, at = after(at, ",]")
        else:
            _, at = value(at)
        mark, at = after(at, ",}")
    if skip(at) != len(text):
        raise damaged(skip(at), "something follows the end")


def _picture(entry: dict[str, Any], where: str) -> Picture:
    width, height = _whole(entry, "width", where), _whole(entry, "height", where)
    if not (0 < width <= 1e6 and 0 < height <= 1e6):
        raise UserError(f"{where}: the image is said to be {width}x{height}")
    return Picture(_whole(entry, "id", where), _string(entry, "file_name", where), width, height)


def _annotation(entry: dict[str, Any], where: str) -> tuple[int, tuple[int, float, float, float, float, int]]:
    box = entry.get("bbox")
    # Beyond a million pixels nothing is a coordinate, and float32 would round it.
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(type(value) in (int, float) and abs(value) <= 1e6 for value in box)
    ):
        raise UserError(f"{where}: bbox must be four numbers [x, y, width, height] in pixels")
    crowd = int(bool(entry.get("iscrowd", 0)))
    row = (_whole(entry, "category_id", where), *map(float, box), crowd)
    return _whole(entry, "image_id", where), row  # type: ignore[return-value]


def _whole(entry: dict[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise UserError(f"{where}: {key} is {str(value)[:40]!r}, it must be a whole number")
    return value


def _string(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    # Half of a surrogate pair, which JSON can spell, is neither a file name nor printable.
    if (
        not isinstance(value, str)
        or not value.strip()
        or "\0" in value
        or any("\ud800" <= c <= "\udfff" for c in value)
    ):
        raise UserError(f"{where}: {key} must be a text that is not empty")
    return value.strip()
