"""MXNet's record files, byte by byte: reading without trust, and writing.

A record is the magic number, a header with its length (29 bits) and the part of the record it is (3 bits: 0 whole,
1 first, 2 middle, 3 last), the bytes, and zeros up to a multiple of four. Where the magic word itself occurs in the
bytes at such a multiple it is left out and the record is cut there (dmlc-core, recordio.h). The bytes of an image are
a header (flag: floats of the label, 0 for the one in the header; a label; id; id2), the label, and the encoded image
(MXNet, recordio.pack).
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd.utils.atomic_files import open_regular
from ssd.utils.errors import UserError

MAGIC_NUMBER = 0xCED7230A
MAGIC = struct.pack("<I", MAGIC_NUMBER)
HEADER = struct.Struct("<II")
IMAGE = struct.Struct("<IfQQ")
LENGTH_BITS = 29
WHOLE, FIRST, MIDDLE, LAST = range(4)
MAX_LABEL = 1_000_000  # floats
MAX_OBJECT_WIDTH = 100
MAX_SHARE = 10  # corners a little outside of 0..1 are a matter for the checks of boxes, pixels are a mistake


@dataclass(frozen=True)
class Record:
    """One image: its id, label (float32) and encoded bytes, and where its record starts and ends in the file."""

    id: int
    label: np.ndarray
    data: bytes
    start: int
    end: int


@contextmanager
def opened(path: Path) -> Iterator[bytes | mmap.mmap]:
    """The bytes of a record file, mapped; UserError when it cannot be read."""
    try:
        with open_regular(path) as file:
            if not file.seek(0, 2):
                yield b""
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                yield view
    except OSError as error:
        raise UserError(f"{path}: cannot read the records: {error.strerror}") from error


def scan(view: bytes | mmap.mmap, what: str) -> Iterator[Record]:
    """All records, in the order of the file; UserError naming `what` and the record when one is damaged."""
    position = number = 0
    while position < len(view):
        record = read_at(view, position, f"{what}: record {number} at byte {position}")
        yield record
        position, number = record.end, number + 1


def read_at(view: bytes | mmap.mmap, start: int, where: str) -> Record:
    """The record that starts at a byte; UserError starting with `where` when there is none or it is damaged."""
    pieces = []
    position, expected = start, (WHOLE, FIRST)
    while True:
        if position + HEADER.size > len(view):
            raise UserError(f"{where} is cut short")
        magic, header = view[position : position + 4], HEADER.unpack_from(view, position)[1]
        place, length = header >> LENGTH_BITS, header & ((1 << LENGTH_BITS) - 1)
        if magic != MAGIC or place not in expected:
            raise UserError(f"{where} is damaged, or the file is no MXNet record file")
        position += HEADER.size
        if position + length > len(view):
            raise UserError(f"{where} is cut short")
        pieces.append(view[position : position + length])
        position += length + -length % 4
        if place in (WHOLE, LAST):
            break
        expected = (MIDDLE, LAST)
    payload = pieces[0] if len(pieces) == 1 else MAGIC.join(pieces)
    if len(payload) < IMAGE.size:
        raise UserError(f"{where} is too short for an image")
    flag, single, number, _ = IMAGE.unpack_from(payload)
    if flag > MAX_LABEL or IMAGE.size + 4 * flag > len(payload):
        raise UserError(f"{where} has a label of {flag} numbers, more than it holds")
    label = np.frombuffer(payload, "<f4", flag, IMAGE.size) if flag else np.array([single], np.float32)
    return Record(number, label, payload[IMAGE.size + 4 * flag :], start, min(position, len(view)))


def objects(label: np.ndarray, where: str) -> np.ndarray:
    """Boxes of an image's label: float64 [N, 6] (class, xmin, ymin, xmax, ymax, difficult), corners as shares 0..1.

    label: [A, W, A - 2 other numbers, then W per object: class xmin ymin xmax ymax difficult ...], W at least 5; rows
    of a negative class pad it. UserError starting with `where` when it is none.
    """
    head, width = (float(label[0]), float(label[1])) if len(label) > 1 else (0.0, 0.0)
    if not (head.is_integer() and width.is_integer() and 2 <= head <= len(label) and 5 <= width <= MAX_OBJECT_WIDTH):
        raise UserError(f"{where}: the label must start with its own width (2) and that of an object (5 or 6)")
    numbers = label[int(head) :].astype(np.float64)
    if len(numbers) % int(width) or not np.isfinite(numbers).all():
        raise UserError(f"{where}: the label holds {len(numbers)} numbers, not a multiple of {width:g} finite ones")
    rows = numbers.reshape(-1, int(width))
    rows = rows[rows[:, 0] >= 0]
    boxes = np.zeros((len(rows), 6))
    boxes[:, :5] = rows[:, :5]
    if width > 5:
        boxes[:, 5] = rows[:, 5] > 0
    if (boxes[:, 0] % 1).any():
        raise UserError(f"{where}: a class is no whole number")
    if len(boxes) and np.abs(boxes[:, 1:5]).max() > MAX_SHARE:
        raise UserError(f"{where}: corners must be shares 0..1 of the image")
    return boxes


def encode(number: int, label: np.ndarray, data: bytes) -> bytes:
    """The bytes of a record, as `MXRecordIO.write(recordio.pack(...))` would append them to a file."""
    return b"".join(encode_pieces(number, label, data))


def encode_pieces(number: int, label: np.ndarray, data: bytes) -> list[bytes]:
    """The same bytes in pieces, of which `data` itself is one, uncopied, unless it happens to hold the magic word."""
    values = np.ascontiguousarray(label, "<f4").tobytes()
    head = IMAGE.pack(len(values) // 4, 0.0, number, 0) + values
    if not _has_magic(head) and not _has_magic(data):  # the head is whole header, so those of data stay where they are
        length = len(head) + len(data)
        return [MAGIC, _header(number, WHOLE, length), head, data, b"\0" * (-length % 4)]
    parts = _cut(head + data)
    out = []
    for index, part in enumerate(parts):
        place = WHOLE if len(parts) == 1 else FIRST if index == 0 else LAST if index == len(parts) - 1 else MIDDLE
        out += [MAGIC, _header(number, place, len(part)), part, b"\0" * (-len(part) % 4)]
    return out


def _header(number: int, place: int, length: int) -> bytes:
    if length >> LENGTH_BITS:
        raise UserError(f"record {number}: {length / 1e6:.0f} MB are too many, records hold 536 MB at most")
    return struct.pack("<I", place << LENGTH_BITS | length)


def _has_magic(data: bytes) -> bool:
    """Whether the magic word stands at a multiple of four."""
    return bool((np.frombuffer(data, "<u4", len(data) // 4) == MAGIC_NUMBER).any())


def _cut(payload: bytes) -> list[bytes]:
    """What lies between the magic numbers at multiples of four."""
    places = np.flatnonzero(np.frombuffer(payload, "<u4", len(payload) // 4) == MAGIC_NUMBER) * 4
    starts = [0, *(places + 4).tolist()]
    return [payload[start:end] for start, end in zip(starts, [*places.tolist(), len(payload)], strict=True)]
