"""Images in whatever form a request brings them, as arrays.

An image is the bytes of an image file (JPEG, PNG, BMP, WebP), the same as base64 text (also as data:image/…;base64,…),
or HxWx3 RGB values 0..255 as an array or nested lists. Text is never a path or an address: nothing is fetched. Several
come as a list, an array [B, H, W, 3], a DataFrame with one column or a column `image`, or {"image": …}.
"""

import base64
import binascii
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ssd.data.images import check_header, decode
from ssd.utils.errors import UserError

IMAGES_AT_MOST = 64  # in one request
PIXELS_AT_MOST = 50_000_000  # of one image: 150 MB once decoded
COLUMN = "image"
FORMS = "expected a list of images: image bytes, base64 text, or HxWx3 values 0..255"


def images(given: Any, budget: float = math.inf) -> list[Any]:
    """The images of a request, each in its own form. budget: most pixels of all of them.

    Nothing is decoded: headers have the sizes. Errors: UserError for too many, none, another form, and for the first
    image that is too large or has no size.
    """
    items = _listed(given)
    if not items:
        raise UserError(f"there is no image in the request; {FORMS}")
    if len(items) > IMAGES_AT_MOST:
        raise UserError(f"{len(items)} images are too many for one request, at most {IMAGES_AT_MOST}")
    pixels = sum(_pixels(item, f"image {number}") for number, item in enumerate(items))
    if pixels > budget:
        raise UserError(
            f"{len(items)} images have {_millions(pixels)} million pixels together, too many for one request, at most "
            f"{_millions(budget)} million are looked at (deploy.request_pixels)"
        )
    return items


def _millions(pixels: float) -> str:
    return f"{pixels / 1e6:.1f}".removesuffix(".0")


def _pixels(item: Any, what: str) -> int:
    """Of one image, 0 for values that are none. Errors: UserError naming `what`."""
    item = _file(item, what)
    if isinstance(item, bytes):
        width, height = check_header(item, what)
    elif isinstance(item, np.ndarray):
        height, width = item.shape[:2] if item.ndim >= 2 else (0, 0)
    elif isinstance(item, (list, tuple)) and item and isinstance(item[0], (list, tuple)):
        height, width = len(item), len(item[0])
    else:
        return 0
    _check_size(width, height, what)
    return width * height


def _listed(given: Any) -> list[Any]:
    while isinstance(given, dict):
        given = _of_record(given)
    if hasattr(given, "columns"):  # a pandas DataFrame
        if COLUMN not in given.columns and len(given.columns) != 1:
            raise UserError(f"no column {COLUMN!r} among {_names(given.columns)}; {FORMS}")
        return list(given[COLUMN if COLUMN in given.columns else given.columns[0]])
    if isinstance(given, (str, bytes, bytearray, memoryview)):
        return [given]
    if isinstance(given, np.ndarray):
        return [given] if given.ndim == 3 else list(given) if given.ndim else [given.item()]
    if isinstance(given, (list, tuple)):
        if _depth(given) == 3:  # one image as nested lists
            return [given]
        return [_of_record(item) if isinstance(item, dict) else item for item in given]
    raise UserError(f"{type(given).__name__} is no form of images; {FORMS}")


def _of_record(record: dict[str, Any]) -> Any:
    if COLUMN not in record:
        raise UserError(f"no key {COLUMN!r} among {_names(record)}; {FORMS}")
    return record[COLUMN]


def _names(names: Iterable[Any]) -> str:
    text = ", ".join(repr(name) for name in names) or "none"
    return text if len(text) <= 60 else text[:60] + "…"


def _depth(given: Any) -> int:
    """How deep lists are nested, along their first elements, down to numbers; 0 where something else is inside."""
    depth = 0
    while isinstance(given, (list, tuple)) and given:
        given, depth = given[0], depth + 1
    return depth if isinstance(given, (int, float)) else 0


def to_array(item: Any, what: str) -> np.ndarray:
    """HxWx3 uint8 RGB of one image. Errors: UserError naming `what` when it is none, or too large."""
    item = _file(item, what)
    if isinstance(item, bytes):
        width, height = check_header(item, what)
        _check_size(width, height, what)
        return decode(item, what)
    return _from_values(item, what)


def _file(item: Any, what: str) -> Any:
    """The bytes of an image that is an encoded file; other forms as they are."""
    if isinstance(item, np.ndarray) and item.ndim == 0:
        item = item.item()
    if isinstance(item, str):
        return _from_base64(item, what)
    return bytes(item) if isinstance(item, (bytearray, memoryview)) else item


def _from_base64(text: str, what: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)  # the shell's base64 breaks lines
    except (binascii.Error, ValueError):
        raise UserError(f"{what}: the text is not base64 of an image file") from None


def _from_values(item: Any, what: str) -> np.ndarray:
    # Not as numbers yet: of one long text among them NumPy would make an array of texts that long.
    values = item if isinstance(item, np.ndarray) else np.asarray(item, dtype=object)
    if values.ndim != 3 or values.shape[2] != 3 or not values.size:
        shape = "x".join(map(str, values.shape)) if values.ndim and values.size else type(item).__name__
        raise UserError(f"{what}: {shape} is no image; expected image bytes, base64 text, or HxWx3 values 0..255")
    _check_size(values.shape[1], values.shape[0], what)
    if values.dtype.kind == "O" and all(map(_is_integer, set(map(type, values.flat)))):
        values = values.clip(-1, 256).astype(np.int64)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise UserError(f"{what}: its values must be whole numbers 0..255")
    return np.ascontiguousarray(values, dtype=np.uint8)


def _is_integer(kind: type) -> bool:
    return issubclass(kind, (int, np.integer)) and kind is not bool


def _check_size(width: int, height: int, what: str) -> None:
    if width * height > PIXELS_AT_MOST:
        raise UserError(
            f"{what}: {width}x{height} pixels are too many, at most {PIXELS_AT_MOST // 10**6} million are looked at"
        )
