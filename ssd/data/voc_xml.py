"""One PASCAL VOC annotation file: XML text to numbers and back. Coordinates stay as the file has them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from ssd.errors import UserError

MAX_BYTES = 10_000_000  # some 30,000 objects
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VOCObject:
    """One <object>; box = (xmin, ymin, xmax, ymax) as written: pixels counted from 1, both ends inside the box."""

    name: str
    box: tuple[float, float, float, float]
    difficult: int


@dataclass(frozen=True)
class Annotation:
    """One file; filename is "" and width and height are 0 where the file does not say.

    broken: number (from 1) and error of every <object> that cannot be read, and is missing from `objects`.
    """

    filename: str
    width: int
    height: int
    objects: tuple[VOCObject, ...]
    broken: tuple[tuple[int, UserError], ...] = ()

    def numbered(self) -> Iterator[tuple[int, VOCObject]]:
        """The objects with their numbers in the file."""
        broken = {number for number, _ in self.broken}
        numbers = (number for number in count(1) if number not in broken)
        return zip(numbers, self.objects, strict=False)


def parse(data: bytes, what: str) -> Annotation:
    """Reads an annotation; UserError starting with `what` (the file's name) when it is not one.

    An <object> that is none goes to `broken`: whether the others are wanted without it is the caller's to say.
    Entities and documents above MAX_BYTES are refused, so that no file can exhaust memory.
    """
    if len(data) > MAX_BYTES:
        raise UserError(f"{what}: {len(data)} bytes are too many for an annotation, at most {MAX_BYTES} are read")
    try:
        root = defusedxml.ElementTree.fromstring(data)
    except ParseError as error:
        raise UserError(f"{what}: not XML ({error})") from error
    # ValueError: an encoding Python does not know; LookupError: one that expat does not take.
    except (DefusedXmlException, ValueError, LookupError) as error:
        raise UserError(f"{what}: not readable XML ({type(error).__name__})") from error
    if root.tag != "annotation":
        raise UserError(f"{what}: the first element is <{root.tag}>, it must be <annotation>")
    objects, broken = [], []
    for number, element in enumerate(root.iterfind("object"), start=1):
        try:
            objects.append(_object(element, f"{what}: object {number}"))
        except UserError as error:
            broken.append((number, error))
    return Annotation(
        filename=(root.findtext("filename") or "").strip(),
        width=_size(root, "width", what),
        height=_size(root, "height", what),
        objects=tuple(objects),
        broken=tuple(broken),
    )


def write(filename: str, width: int, height: int, objects: Sequence[VOCObject]) -> bytes:
    """The XML of an annotation, coordinates as given (whole numbers without a decimal point)."""
    root = Element("annotation")
    _add(root, "filename", filename)
    size = SubElement(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        _add(size, tag, str(value))
    for item in objects:
        element = SubElement(root, "object")
        _add(element, "name", item.name)
        _add(element, "difficult", str(item.difficult))
        box = SubElement(element, "bndbox")
        for tag, coordinate in zip(CORNERS, item.box, strict=True):
            _add(box, tag, f"{coordinate:.6f}".rstrip("0").rstrip("."))
    indent(root)
    return tostring(root)


def _add(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = text


def _size(root: Element, tag: str, what: str) -> int:
    text = root.findtext(f"size/{tag}")
    return int(_number(text, f"<{tag}>", what)) if text and text.strip() else 0


def _object(element: Element, what: str) -> VOCObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise UserError(f"{what} has no <name>")
    what = f"{what} ({name})"
    box = element.find("bndbox")
    if box is None:
        raise UserError(f"{what} has no <bndbox>")
    xmin, ymin, xmax, ymax = (_number(box.findtext(tag), f"<{tag}>", what) for tag in CORNERS)
    difficult = _number(element.findtext("difficult") or "0", "<difficult>", what)
    return VOCObject(name, (xmin, ymin, xmax, ymax), int(difficult != 0))


def _number(text: str | None, tag: str, what: str) -> float:
    if text is None:
        raise UserError(f"{what} has no {tag}")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # Beyond a million pixels nothing is a coordinate, and float32 would round it.
    if not abs(value) <= 1e6:
        raise UserError(f"{what}: {tag} is {text.strip()[:40]!r}, it must be a number of pixels")
    return value
