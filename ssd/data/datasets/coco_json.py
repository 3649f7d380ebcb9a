"""One COCO instances file (cocodataset.org, "Data format"): JSON to rows and back.

The file is walked element by element and only what detection needs is kept, because the masks make up most of it: the
450 MB of instances_train2017.json take some seconds and little more memory than their text.
"""

import json
import logging
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from json.decoder import JSONDecodeError
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssd.data.base import Sample
from ssd.data.inspection.checks import name_problem
from ssd.data.inspection.problems import WARNING, Problem, collect, reject
from ssd.utils.atomic_files import read_text
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

MAX_BYTES = 4_000_000_000
SPACE = re.compile(r"[ \t\n\r]*")
WHAT = "a COCO instances file"
MAX_ID = 1 << 63  # numpy, which pycocotools sorts ids with, has no larger whole numbers
NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.0*)?")  # text that stands for a whole number as it is written
FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1, "": 0}

Id = int | str  # as the file has it: pycocotools takes 60 and "60" for two images, and 60.0 for 60


@dataclass(frozen=True)
class CocoImage:
    """An entry of `images`."""

    id: Id
    file: str
    width: int
    height: int


class Box(NamedTuple):
    """An entry of `annotations`: x, y, width, height and area in pixels; crowd is 0 or 1; number: its place in the
    list, from 0."""

    category: int
    x: float
    y: float
    width: float
    height: float
    area: float
    crowd: int
    number: int


@dataclass(frozen=True)
class Instances:
    """What a file says. categories: name by id, in the order of ids, root categories left out; raw: their ids as they
    are written. boxes: per image id.

    broken: per image id the annotations that cannot be used: place in the list, and why.
    stray: place in the list of annotations whose image is not in images, and the image's id.
    roots: ids of categories that no annotation has and that others name as their supercategory: Roboflow begins its
    files with one that has the project's name.
    """

    images: list[CocoImage]
    categories: dict[int, str]
    boxes: dict[Id, list[Box]]
    broken: dict[Id, list[tuple[int, UserError]]]
    stray: dict[int, Id]
    raw: dict[int, Id]
    roots: dict[int, str]


def read(path: Path) -> Instances:
    """Reads a file; UserError naming it, the list and the entry when something is wrong."""
    return parse(read_text(path, MAX_BYTES, WHAT), str(path))


def parse(text: str, what: str) -> Instances:
    """Reads the text of a file; UserError starting with `what`.

    An image or category that cannot be used is refused (ssd.data.inspection.problems), and left out where problems are
    collected; so is an annotation whose image is unknown.
    """
    reader = _Reader(what)
    seen = set()
    for section, number, entry in _entries(text, what):
        seen.add(section)
        if number >= 0:
            try:
                reader.add(section, number, entry)
            except UserError as error:
                reject(error, "object" if section == "annotations" else "unusable", what)
    for section in ("images", "categories", "annotations"):
        if section not in seen:
            raise UserError(f"{what}: has no list {section!r}, so it is no COCO instances file")
    return reader.result()


class _Reader:
    """Takes the entries of a file one by one."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._images: dict[Id, CocoImage] = {}  # by key, see _key
        self._names: dict[int, str] = {}
        self._raw: dict[int, Id] = {}
        self._supercategories: dict[int, str] = {}
        self._boxes: dict[Id, list[Box]] = {}
        self._broken: dict[Id, list[tuple[int, UserError]]] = {}
        self._ids = array("q")  # of annotations
        self._listed: set[Id] = set()  # keys of images, also of those whose entry is refused

    def add(self, section: str, number: int, entry: Any) -> None:
        where = f"{self._what}: {section}[{number}]"
        if not isinstance(entry, dict):
            raise UserError(f"{where} is no object with names and values")
        if section == "images":
            self._image(entry, where)
        elif section == "categories":
            self._category(entry, where)
        else:
            self._annotation(entry, where, number)

    def _image(self, entry: dict[str, Any], where: str) -> None:
        number = _id(entry, "id", where)
        self._listed.add(_key(number))
        image = CocoImage(number, _string(entry, "file_name", where), *_size(entry, where))
        other = self._images.setdefault(_key(number), image)
        if other is not image:
            raise UserError(f"{where}: image id {number} is used twice, for {other.file} and {image.file}")

    def _category(self, entry: dict[str, Any], where: str) -> None:
        number, name = _whole(entry, "id", where), _string(entry, "name", where)
        if problem := name_problem(name):
            raise UserError(f"{where}: name {name[:40]!r} {problem}")
        if self._names.setdefault(number, name) != name:
            raise UserError(f"{where}: category id {number} is used twice, for {self._names[number]!r} and {name!r}")
        self._raw[number] = entry["id"] if isinstance(entry["id"], str) else number
        above = entry.get("supercategory")
        if isinstance(above, str):
            self._supercategories[number] = above.strip()

    def _annotation(self, entry: dict[str, Any], where: str, number: int) -> None:
        image = _key(_id(entry, "image_id", where))
        try:
            self._boxes.setdefault(image, []).append(_box(entry, where, number))
        except UserError as error:
            self._broken.setdefault(image, []).append((number, error))
        identifier = entry.get("id")
        if type(identifier) is int and -MAX_ID <= identifier < MAX_ID:
            self._ids.append(identifier)

    def result(self) -> Instances:
        """Checks what only the whole file shows."""
        what, names = self._what, self._names
        for key, rows in self._boxes.items():
            wrong = [box for box in rows if box.category not in names]
            self._boxes[key] = [box for box in rows if box.category in names]
            for box in wrong:
                where = f"{what}: annotations[{box.number}]"
                error = UserError(f"{where}: category id {box.category} is not in categories")
                self._broken.setdefault(key, []).append((box.number, error))
        stray = {box.number: key for key in self._boxes.keys() - self._listed for box in self._boxes[key]}
        used = {box.category for rows in self._boxes.values() for box in rows}
        roots = {number: name for number, name in names.items() if number not in used and self._is_root(number)}
        kept = {number: name for number, name in sorted(names.items()) if number not in roots}
        ids, counts = np.unique(np.frombuffer(self._ids, np.int64), return_counts=True)
        if (repeated := ids[counts > 1]).size:
            said = (
                f"{repeated.size} ids of annotations are used twice, such as {repeated[0]}; pycocotools measures with "
            )
            log.warning("%s: %sone of each", what, said)
            collect(Problem("double", what, None, f"{said}one of each", WARNING, kept=True))
        boxes = {self._images[key].id: rows for key, rows in self._boxes.items() if key in self._images}
        broken = {self._images[key].id: rows for key, rows in self._broken.items() if key in self._images}
        kept = _one_each(kept, used, what)
        return Instances(
            list(self._images.values()), kept, boxes, broken, dict(sorted(stray.items())), self._raw, roots
        )

    def _is_root(self, number: int) -> bool:
        """Whether another category names this one as its supercategory, and this one none of the others."""
        others = [other for other in self._names if other != number]
        mine = self._supercategories.get(number)
        return any(self._supercategories.get(other) == self._names[number] for other in others) and not any(
            self._names[other] == mine for other in others
        )


def _one_each(names: dict[int, str], used: set[int], what: str) -> dict[int, str]:
    """Of several categories of one name the one that annotations have; UserError when several have some."""
    by_name: dict[str, list[int]] = {}
    for number, name in names.items():
        by_name.setdefault(name, []).append(number)
    for name, numbers in by_name.items():
        having = [number for number in numbers if number in used]
        if len(having) > 1:
            raise UserError(
                f"{what}: categories {having[0]} and {having[1]} are both named {name!r}: rename one of them, "
                f"or give the annotations of both the same category_id"
            )
        if len(numbers) > 1:
            keep = having[0] if having else numbers[0]
            for number in set(numbers) - {keep}:
                log.info("%s: category %d, named %r like category %d, has no annotation and is left out",
                         what, number, name, keep)  # fmt: skip
                names = {other: text for other, text in names.items() if other != number}
    return names


def write_samples(samples: Sequence[Sample], image_ids: Sequence[Id], categories: Mapping[Id, str]) -> str:
    """The JSON of samples; class c is the c-th of categories. file_name is without folders, unless two would be the
    same. Areas and sides are those of Sample.annotated where there
    is one, and difficult objects have "ignore"."""
    ids = list(categories)
    images, annotations = [], []
    names = [sample.path.name for sample in samples]
    if len(set(names)) < len(names):
        names = [sample.path.as_posix() for sample in samples]
    for number, name, sample in zip(image_ids, names, samples, strict=True):
        images.append(CocoImage(number, name, sample.width, sample.height))
        if sample.annotated is None:
            found = [annotation_entry(0, number, ids[int(row[0])], row) for row in sample.ground_truth().tolist()]
        else:
            found = [
                {"id": 0, "image_id": number, "category_id": ids[int(label)], "bbox": sides, "area": area,
                 "iscrowd": int(crowd)}
                for label, *sides, area, crowd in sample.annotated.tolist()
            ]  # fmt: skip
        annotations += found
    numbered = [{**entry, "id": place} for place, entry in enumerate(annotations, start=1)]
    return _file(images, numbered, categories)


def write(images: Sequence[CocoImage], rows: Sequence[np.ndarray], categories: Mapping[Any, str]) -> str:
    """The JSON of images with boxes; `parse` reads it back.

    rows: per image [N, 6 or 7] (class, xmin, ymin, xmax, ymax, difficult[, crowd]), as Sample.ground_truth() gives
    them; class c is the c-th of categories.
    """
    ids = list(categories)
    annotations: list[dict[str, Any]] = []
    for image, boxes in zip(images, rows, strict=True):
        for row in boxes.tolist():
            annotations.append(annotation_entry(len(annotations) + 1, image.id, ids[int(row[0])], row))
    return _file(images, annotations, categories)


def _file(images: Sequence[CocoImage], annotations: list[dict[str, Any]], categories: Mapping[Any, str]) -> str:
    listed = [image_entry(image) for image in images]
    named = [{"id": number, "name": name} for number, name in categories.items()]
    return json.dumps({"images": listed, "annotations": annotations, "categories": named})


def image_entry(image: CocoImage) -> dict[str, Any]:
    """An entry of `images`."""
    return {"id": image.id, "file_name": image.file, "width": image.width, "height": image.height}


def annotation_entry(number: int, image: Id, category: Id, row: Sequence[float]) -> dict[str, Any]:
    """An entry of `annotations`: its id, those of image and category, and a row of boxes as `write` takes them."""
    width, height = row[3] - row[1], row[4] - row[2]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [round(value, 6) for value in (row[1], row[2], width, height)],
        "area": round(width * height, 6),
        "iscrowd": int(len(row) > 6 and row[6] > 0),
        **({"ignore": 1} if row[5] > 0 else {}),
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


def _size(entry: dict[str, Any], where: str) -> tuple[int, int]:
    width, height = _whole(entry, "width", where), _whole(entry, "height", where)
    if not (0 < width <= 1e6 and 0 < height <= 1e6):
        raise UserError(f"{where}: the image is said to be {width}x{height}")
    return width, height


def _box(entry: dict[str, Any], where: str, number: int) -> Box:
    if entry.get("bbox") in (None, []) and entry.get("segmentation"):
        raise UserError(f"{where}: has a segmentation but no bbox; write [x, y, width, height] around it")
    box = entry.get("bbox")
    values = [_number(value) for value in box] if isinstance(box, list) else []
    # Beyond a million pixels nothing is a coordinate, and float32 would round it.
    if len(values) != 4 or not all(value is not None and abs(value) <= 1e6 for value in values):
        raise UserError(f"{where}: bbox must be four numbers [x, y, width, height] in pixels")
    x, y, width, height = (float(value) for value in values if value is not None)
    area = _number(entry.get("area"))
    area = width * height if area is None or not 0 <= area <= 1e12 else float(area)
    return Box(_whole(entry, "category_id", where), x, y, width, height, area, _crowd(entry, where), number)


def _crowd(entry: dict[str, Any], where: str) -> int:
    value = entry.get("iscrowd")
    if value is None:
        return 0
    text = str(value).strip().lower()
    flag = FLAGS.get(re.sub(r"\.0*$", "", text)) if isinstance(value, (bool, int, float, str)) else None
    if flag is None:
        raise UserError(f"{where}: iscrowd is {str(value)[:40]!r}, it must be 0 or 1")
    return flag


def _number(value: Any) -> float | None:
    """A number, also where it is written as text; None for what is none. May be infinite."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if type(value) in (int, float) else None


def _id(entry: dict[str, Any], key: str, where: str) -> Id:
    """An id as it is written: a whole number or a text; 60.0 is 60."""
    value = entry.get(key)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int and -MAX_ID <= value < MAX_ID:
        return value
    if type(value) is int:
        raise UserError(f"{where}: {key} {value} has too many digits for pycocotools; write it as text, in quotes")
    if type(value) is not str:
        raise UserError(f"{where}: {key} is {str(value)[:40]!r}, it must be a whole number or a text")
    return _string(entry, key, where)


def _key(identifier: Id) -> Id:
    """What 60 and "60" have in common: files that went through tables have one in images, the other in annotations."""
    if isinstance(identifier, str) and NUMBER.fullmatch(identifier) and len(identifier) < 16:
        return int(float(identifier))
    return identifier


def _whole(entry: dict[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()) and len(value) < 16:
        value = float(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise UserError(f"{where}: {key} is {str(entry.get(key))[:40]!r}, it must be a whole number")
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
