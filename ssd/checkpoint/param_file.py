"""MXNet's files of arrays (.params, .states), their headers checked before MXNet's own parser sees them.

That parser takes what a header says as it is: a number of dimensions below zero ends the process, and a count of arrays
asks for memory of any size. Forms after MXNet's ndarray.cc: a list is its magic number, a zero, the number of arrays
(64 bits each), the arrays, the number of names, and each name behind its length. An array is a magic number (32 bits),
its storage (32, not before version 2), the number of its dimensions (32), these (64 each; 32 in files from before there
was a magic number, which begin with the number of dimensions), its device (two of 32), its type (32), and its values.
"""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO

import numpy as np

from ssd.mxnet_compat import mx
from ssd.utils.atomic_files import open_regular
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

LIST = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "<u1", 4: "<i4", 5: "<i1", 6: "<i8", 7: "<u1", 12: "<u2"}
# 7 are truth values, 12 is bfloat16
FLOATS = ("<f4", "<f8", "<f2")
DEVICES = (1, 2, 3, 5)  # CPU, GPU, pinned and shared memory
MAX_DEVICE = 1024
MAX_ARRAYS = 100_000
MAX_DIMENSIONS = 16
MAX_NAME = 4096  # bytes
LARGEST = 1e10  # of a weight; a flipped bit of an exponent makes more, no training does
MOST_NAMED = 4
INT32, UINT32, UINT64 = Struct("<i"), Struct("<I"), Struct("<Q")


class _DamagedError(ValueError):
    """Why a file is none."""


@dataclass(frozen=True)
class Entry:
    """An array of a file. name: None where the file names none. dtype: as numpy writes it. start: where its values
    begin."""

    name: str | None
    shape: tuple[int, ...]
    dtype: str
    start: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def read_arrays(path: Path, weights: bool = True) -> dict[str, Any]:
    """The named arrays of a file, as mx.nd.load gives them; empty where they have no names.

    weights: they are a network's. Of these, numbers that no training arrives at are warned of, for the file has no
    checksum of its own.
    Errors: UserError when it is damaged or no such file, or a weight is NaN or infinite.
    """
    try:
        with open_regular(path) as file:
            entries = read_header(file)
            if weights:
                check_values(path, file, entries)
    except _DamagedError as error:
        raise UserError(f"{path}: cannot be read, it is cut short or no MXNet parameter file ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not entries or entries[0].name is None:
        return {}
    try:
        arrays = mx.nd.load(str(path))
        mx.nd.waitall()
    except (mx.base.MXNetError, MemoryError, ValueError) as error:
        raise UserError(f"{path}: cannot be read, it is cut short or no MXNet parameter file") from error
    return dict(arrays)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Of the named arrays of a file; none where they have no names, or where it is not such a file. Reads no values."""
    try:
        with open_regular(path) as file:
            return {entry.name: entry.shape for entry in read_header(file) if entry.name is not None}
    except (_DamagedError, OSError):
        return {}


def read_header(file: BinaryIO) -> list[Entry]:
    """What a file says of its arrays, without their values. Errors: _DamagedError."""
    source = _Source(file)
    if source.number(UINT64) != LIST:
        raise _DamagedError("it does not begin as one does")
    if source.number(UINT64) != 0:
        raise _DamagedError("its second integer is not 0")
    count = source.number(UINT64)
    if count > MAX_ARRAYS:
        raise _DamagedError(f"it claims {count} arrays, more than {MAX_ARRAYS} are not read")
    arrays = [_array(source, number) for number in range(count)]
    names = list(_names(source, count))
    return [Entry(name, *array) for name, array in zip(names or (None for _ in arrays), arrays, strict=True)]


def check_values(path: Path, file: BinaryIO, entries: Sequence[Entry]) -> None:
    """Errors: UserError naming arrays with values that are no numbers. What is too large is warned of."""
    if not any(entry.dtype in FLOATS for entry in entries):
        return
    values = np.memmap(file, np.uint8, "r")
    broken, large = [], []
    for entry in entries:
        if entry.dtype in FLOATS:
            end = entry.start + entry.count * np.dtype(entry.dtype).itemsize
            most = _largest(values[entry.start : end].view(np.uint8), entry.dtype)
            if not math.isfinite(most):
                broken.append(str(entry.name))
            elif most > LARGEST:
                large.append(f"{entry.name} ({most:.3g})")
    if broken:
        raise UserError(f"{path}: NaN or infinite values in {_some(broken)}; the training it is of went wrong, or the "
                        "file is damaged")  # fmt: skip
    if large:
        log.warning("%s: values that no training arrives at in %s; it may be damaged", path, _some(large))


def _largest(data: np.ndarray, dtype: str) -> float:
    """The largest size of a value, or less than LARGEST where none is larger; NaN or infinite where one is."""
    values = np.frombuffer(data, dtype)
    if dtype == "<f2":
        values = values.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        together = float(np.dot(values, values))  # one pass, at the memory's speed
        if together <= LARGEST**2:
            return 0.0
        return float(np.abs(values).max())


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more arrays" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"


class _Source:
    """Reads a file from its start on."""

    def __init__(self, file: BinaryIO) -> None:
        self._handle = file.fileno()
        self.size = os.fstat(self._handle).st_size
        self.position = 0

    def take(self, count: int) -> bytes:
        data = os.pread(self._handle, count, self.position) if count <= self.size - self.position else b""
        if len(data) < count:
            raise _DamagedError("it ends too early")
        self.position += count
        return data

    def skip(self, count: int) -> int:
        """Returns where what is skipped begins."""
        start = self.position
        if count > self.size - start:
            raise _DamagedError("it ends too early")
        self.position += count
        return start

    def number(self, form: Struct) -> int:
        return int(form.unpack(self.take(form.size))[0])


def _array(source: _Source, number: int) -> tuple[tuple[int, ...], str, int]:
    """Shape, type, and where the values begin."""
    magic = source.number(UINT32)
    if magic == V3:
        raise _DamagedError(f"array {number} is of MXNet's NumPy interface, which is not read")
    if magic == V2 and (storage := source.number(INT32)) != 0:
        raise _DamagedError(f"array {number} is sparse or of unknown storage ({storage})")
    dimensions = source.number(INT32) if magic in (V1, V2) else magic
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise _DamagedError(f"array {number} has {dimensions} dimensions")
    form = Struct(f"<{dimensions}{'q' if magic in (V1, V2) else 'I'}")
    shape = form.unpack(source.take(form.size))
    device, index, kind = Struct("<iii").unpack(source.take(12))
    if device not in DEVICES or not 0 <= index < MAX_DEVICE or kind not in TYPES:
        raise _DamagedError(f"array {number} is of the unknown device {device}({index}) or type {kind}")
    if min(shape) < 1:
        raise _DamagedError(f"array {number} has the shape {shape}")
    return shape, TYPES[kind], source.skip(math.prod(shape) * np.dtype(TYPES[kind]).itemsize)


def _names(source: _Source, arrays: int) -> Iterator[str]:
    count = source.number(UINT64)
    if count not in (0, arrays):
        raise _DamagedError(f"{count} names for {arrays} arrays")
    seen = set()
    for number in range(count):
        length = source.number(UINT64)
        if length > MAX_NAME:
            raise _DamagedError(f"the name of array {number} has {length} bytes")
        try:
            name = source.take(length).decode()
        except UnicodeDecodeError as error:
            raise _DamagedError(f"the name of array {number} is no UTF-8 text") from error
        if name in seen or "\0" in name:
            raise _DamagedError(f"{name!r} names two arrays" if name in seen else f"{name!r} is no name")
        seen.add(name)
        yield name
