"""One PASCAL VOC annotation file: XML text to numbers and back. Coordinates stay as the file has them."""

import codecs
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from ssd.utils.errors import UserError

MAX_BYTES = 10_000_000  # some 30,000 objects
CORNERS = ("xmin", "ymin", "xmax", "ymax")
BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
DECLARED = re.compile(rb"""\A\s*<\?xml[^>]*?\sencoding\s*=\s*["']([^"'>]{1,40})["']""")
# Tools write characters of the larger sets under these names, and browsers read them so (encoding.spec.whatwg.org).
SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
# What tools write for a flag. Values that leave it open ("Unspecified") flag nothing.
YES = ("true", "yes", "y", "t", "on")
NO = ("", "false", "no", "n", "f", "off", "unspecified", "unknown", "none", "null", "nil", "n/a", "-")


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
    text = _decode(data, what)
    try:
        root = defusedxml.ElementTree.fromstring(text)
    except ParseError as error:
        raise UserError(f"{what}: not XML ({error})") from error
    except (DefusedXmlException, ValueError) as error:
        raise UserError(f"{what}: not readable XML ({type(error).__name__})") from error
    for element in root.iter():  # some tools write <Object>, or all names in a namespace
        element.tag = element.tag.rpartition("}")[2].lower()
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


def _decode(data: bytes, what: str) -> str:
    """The text of an XML file in any encoding that Python knows: its byte order mark's, else the one it declares.

    expat alone reads no encoding of several bytes per character. A declaration that does not fit the bytes is an error:
    which class names the bytes spell could only be guessed.
    """
    declared = DECLARED.search(data)
    encoding = declared.group(1).decode("ascii", "replace").strip() if declared else "utf-8"
    marked = next(((mark, name) for mark, name in BOMS if data.startswith(mark)), None)
    if marked:
        data, encoding = data[len(marked[0]) :], marked[1]
    elif data[:2] in (b"<\0", b"\0<"):
        encoding = "utf-16-le" if data[0] else "utf-16-be"
    elif re.fullmatch("utf[-_]?(16|32).*", encoding, re.IGNORECASE):
        # The declaration could not be read if it were true. .NET writes such files.
        raise UserError(f'{what}: not XML in {encoding}, as its first line says; write encoding="utf-8" there')
    try:
        name = codecs.lookup(encoding).name
        return data.decode(SUPERSETS.get(name, name)).lstrip()  # expat takes nothing before <?xml
    except LookupError as error:
        raise UserError(f"{what}: not readable XML: Python knows no encoding {encoding!r}; save it as UTF-8") from error
    except ValueError as error:
        place = f"byte {error.start}" if isinstance(error, UnicodeDecodeError) else "its text"
        source = "its first line says" if declared and not marked else "is expected"
        raise UserError(
            f"{what}: not XML in {encoding}, as {source} ({place} does not fit); save it as UTF-8, "
            'or name its encoding there: <?xml version="1.0" encoding="..."?>'
        ) from error


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
    boxes = element.findall("bndbox")  # its own: each <part> has another
    if len(boxes) != 1:
        shapes = [child.tag for child in element if child.tag in ("polygon", "robndbox", "segm", "mask")]
        drawn = f" but a <{shapes[0]}>, which is not read" if shapes else ""
        number = f"{len(boxes)} <bndbox>, each needs an <object>" if boxes else f"no <bndbox>{drawn}"
        raise UserError(f"{what} has {number}")
    xmin, ymin, xmax, ymax = (_number(boxes[0].findtext(tag), f"<{tag}>", what) for tag in CORNERS)
    return VOCObject(name, (xmin, ymin, xmax, ymax), _flag(element.findtext("difficult"), "<difficult>", what))


def _flag(text: str | None, tag: str, what: str) -> int:
    word = (text or "").strip().lower()
    if word in YES or word in NO:
        return int(word in YES)
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{what}: {tag} is {word[:40]!r}, it must be 0 or 1")
    return int(value != 0)


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
