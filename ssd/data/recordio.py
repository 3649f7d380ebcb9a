"""Random access to a .rec file, from any number of threads at once.

A record (dmlc recordio): the magic number, a word with 3 bits of kind and 29 of length, the bytes, zeros up to a
multiple of four. Kind 0 is a whole record; bytes that happen to hold the magic number are cut there into records of
kinds 1, 2 ... 2, 3. A picture's bytes: flag, label, two ids (24 bytes), `flag` floats of label, the encoded picture.
"""

import os
import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ssd.data.dataset import BOX_COLUMNS
from ssd.data.images import check_header
from ssd.data.placement import Size
from ssd.data.records import Records
from ssd.errors import UserError

MAGIC = struct.pack("<I", 0xCED7230A)
WORDS = struct.Struct("<4sI")
WHOLE, LAST = 0, 3
IMAGE_HEADER = struct.Struct("<IfQQ")
MAX_RECORD = 1 << 30


@dataclass(frozen=True)
class Picture:
    """An encoded picture with its boxes: float64 [N, 6] (class, xmin, ymin, xmax, ymax, difficult), corners 0..1.

    what: names it in messages.
    """

    data: bytes
    size: Size
    boxes: np.ndarray
    what: str


class RecordFile:
    """The pictures of a .rec by number, 0 .. len - 1, in the order of its .idx."""

    def __init__(self, records: Records) -> None:
        """Errors: UserError when a file is missing or the .idx is none."""
        self._records = records
        self.indices, self._offsets = _read_index(records)
        try:
            self._file = open(records.rec, "rb", buffering=0)  # noqa: SIM115 - open as long as this object
        except OSError as error:
            raise UserError(f"{records.rec}: cannot be read ({error.strerror})") from error

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, number: int) -> Picture:
        """Errors: UserError naming file and record when it is damaged or holds no picture."""
        try:
            payload = self._payload(self._offsets[number])
            flag, _, _, _ = IMAGE_HEADER.unpack_from(payload)
            label = np.frombuffer(payload, np.float32, flag, IMAGE_HEADER.size)
            boxes = _boxes(label)
        except (OSError, ValueError, struct.error) as error:
            raise UserError(
                f"{self.what(number)}: damaged ({error}); delete the folder of the .rec to pack it anew"
            ) from error
        data = payload[IMAGE_HEADER.size + 4 * flag :]
        try:
            size = check_header(data, "")
        except UserError as error:
            raise UserError(f"{self.what(number)}{error}") from error
        return Picture(data, Size(*size), boxes, self.what(number))

    def what(self, number: int) -> str:
        index = self.indices[number]
        return f"{self._records.rec}: picture {index} ({self.names.get(index, 'not in the .lst')})"

    @cached_property
    def names(self) -> dict[int, str]:
        """Index of a picture -> its file as the .lst names it; empty without a .lst."""
        if not self._records.lst.is_file():
            return {}
        lines = (line.split("\t") for line in self._records.lst.read_text(encoding="utf-8").splitlines())
        return {int(float(columns[0])): columns[-1] for columns in lines if len(columns) > 1}

    def close(self) -> None:
        self._file.close()

    def _payload(self, offset: int) -> bytes:
        parts = []
        while True:
            magic, word = WORDS.unpack(self._bytes(offset, WORDS.size))
            kind, length = word >> 29, word & (1 << 29) - 1
            if magic != MAGIC:
                raise ValueError("no record at its offset")
            parts.append(self._bytes(offset + WORDS.size, length))
            if kind in (WHOLE, LAST):
                return MAGIC.join(parts)
            offset += WORDS.size + (length + 3) // 4 * 4

    def _bytes(self, offset: int, count: int) -> bytes:
        data = os.pread(self._file.fileno(), count, offset)
        if len(data) < count:
            raise ValueError("the file is cut short")
        return data


def _read_index(records: Records) -> tuple[list[int], list[int]]:
    try:
        lines = [line.split() for line in records.idx.read_text().splitlines() if line.strip()]
        pairs = [(int(index), int(offset)) for index, offset in lines]
    except OSError as error:
        raise UserError(f"{records.idx}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{records.idx}: not an index, its lines must be: number, tab, offset") from error
    if not pairs or min(offset for _, offset in pairs) < 0:
        raise UserError(f"{records.idx}: not an index of pictures")
    return [index for index, _ in pairs], [offset for _, offset in pairs]


def _boxes(label: np.ndarray) -> np.ndarray:
    """float64 [N, 6] of a flat label [header width, object width, ..., objects]; rows without area are no objects."""
    if len(label) < 2:
        raise ValueError("its label is no detection label")
    header, width = int(label[0]), int(label[1])
    if header < 2 or width < BOX_COLUMNS - 1 or (len(label) - header) % width:
        raise ValueError("its label is no detection label")
    rows = label[header:].reshape(-1, width)
    boxes = np.zeros((len(rows), BOX_COLUMNS))
    columns = min(width, BOX_COLUMNS)
    boxes[:, :columns] = rows[:, :columns]
    if not np.isfinite(boxes).all():
        raise ValueError("its label holds numbers that are not finite")
    good = (boxes[:, 3:5] > boxes[:, 1:3]).all(axis=1) & (boxes[:, 0] >= 0)
    return boxes if good.all() else boxes[good]
