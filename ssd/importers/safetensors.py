"""Arrays out of a .safetensors file, as torchvision's and timm's weights are published: no torch, no pickle.

The format (huggingface.co/docs/safetensors): the length of the header, 8 bytes, little endian; the header, JSON of
{name: {dtype, shape, data_offsets: [begin, end]}}, the offsets counted from its end, with {__metadata__: {…}} beside
these; the values of the arrays, one behind the other, which fill the file without gaps.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ssd.utils.atomic_files import open_regular, parse_json
from ssd.utils.errors import UserError

MAX_HEADER = 16_000_000  # bytes; networks of a thousand arrays have a tenth of a megabyte
MAX_ARRAYS = 100_000
MAX_DIMENSIONS = 16
MAX_BYTES = 4 << 30  # of all arrays
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
METADATA = "__metadata__"


class _DamagedError(ValueError):
    """Why a file is none."""


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The floating-point arrays of a file as float32, by name; counters and other whole numbers are left out.

    Errors: UserError when it is damaged or no such file, and for values that are NaN or infinite.
    """
    try:
        with open_regular(path) as file:
            start, entries = _header(file)
            arrays = {one.name: _array(file, start, one) for one in entries if one.dtype in FLOATS}
    except _DamagedError as error:
        raise UserError(f"{path}: cannot be read, it is truncated or not a .safetensors file ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if broken := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise UserError(f"{path}: NaN or infinite values in {broken[0][:100]}, expected numbers")
    return arrays


def _header(file: BinaryIO) -> tuple[int, list[_Entry]]:
    """Where values begin, and what arrays there are. Errors: _DamagedError."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(_take(file, 8, 0), "little")
    if length > min(MAX_HEADER, size - 8):
        raise _DamagedError(f"its header claims {length} bytes")
    try:
        content = parse_json(_take(file, length, 8))
    except (ValueError, RecursionError) as error:
        raise _DamagedError("its header is not JSON") from error
    if not isinstance(content, dict) or len(content) > MAX_ARRAYS:
        raise _DamagedError("its header has no arrays, or too many")
    entries = [_entry(name, value) for name, value in content.items() if name != METADATA]
    _check_places(entries, size - 8 - length)
    return 8 + length, entries


def _entry(name: str, value: Any) -> _Entry:
    """Errors: _DamagedError."""
    if not isinstance(value, Mapping):
        raise _DamagedError(f"{name[:100]!r} is not described")
    dtype = value.get("dtype")
    if dtype not in WIDTHS:
        raise _DamagedError(f"{name[:100]!r} is of type {str(dtype)[:20]}, which is not read")
    shape, offsets = _sizes(value.get("shape")), _sizes(value.get("data_offsets"))
    if shape is None or len(shape) > MAX_DIMENSIONS or offsets is None or len(offsets) != 2:
        raise _DamagedError(f"{name[:100]!r} has no shape or no place")
    begin, end = offsets
    if end - begin != math.prod(shape) * WIDTHS[dtype]:
        raise _DamagedError(f"{name[:100]!r} claims {shape} of {dtype}, its place holds other numbers")
    return _Entry(name, dtype, shape, begin, end)


def _sizes(values: Any) -> tuple[int, ...] | None:
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 1 << 48 for value in values):
        return None
    return tuple(values)


def _check_places(entries: list[_Entry], size: int) -> None:
    """The arrays must fill what is behind the header: no gap, none twice. Errors: _DamagedError."""
    end = 0
    for one in sorted(entries, key=lambda one: (one.begin, one.end)):
        if one.begin != end:
            raise _DamagedError(f"{one.name[:100]!r} begins at {one.begin}, the array before it ends at {end}")
        end = one.end
    if end != size:
        raise _DamagedError(f"its arrays end at {end}, {size} bytes are there")
    if size > MAX_BYTES:
        raise _DamagedError(f"more than {MAX_BYTES >> 30} GB are too many")


def _take(file: BinaryIO, count: int, place: int) -> bytes:
    data = os.pread(file.fileno(), count, place)
    while len(data) < count and (more := os.pread(file.fileno(), count - len(data), place + len(data))):
        data += more
    if len(data) < count:
        raise _DamagedError("it ends too early")
    return data


def _array(file: BinaryIO, start: int, one: _Entry) -> np.ndarray:
    values = np.frombuffer(_take(file, one.end - one.begin, start + one.begin), FLOATS[one.dtype])
    if one.dtype == "BF16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return values.astype(np.float32).reshape(one.shape)
