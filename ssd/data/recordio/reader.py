"""Random access to the images of a .rec file, from any number of threads at once."""

import os
from functools import cached_property
from pathlib import Path

import numpy as np

from ssd.data.base import EncodedImage, Size
from ssd.data.images import check_header
from ssd.data.recordio.cache import Records
from ssd.data.recordio.format import LENGTH_BITS, objects, read_at
from ssd.utils.atomic_files import open_regular, read_text
from ssd.utils.errors import UserError

MAX_LIST = 2_000_000_000  # bytes of a .lst or .idx
MOST_BYTES = 1 << 62  # of a .rec; places behind that are no numbers of files
MAX_RECORD = 1 << LENGTH_BITS  # bytes of one piece, headers left aside


class RecordFile:
    """The images of a .rec by number, 0 .. len - 1, in the order of its .idx."""

    def __init__(self, records: Records) -> None:
        """Errors: UserError when a file is missing or the .idx is none."""
        self._records = records
        self.indices, self._starts = _read_index(records)
        try:
            self._file = open_regular(records.rec)  # as long as this object
        except OSError as error:
            raise UserError(f"{records.rec}: cannot be read ({error.strerror})") from error
        # A record ends where the next one starts at the latest: it is read at once, before its length is known.
        starts = np.array([*sorted(self._starts), os.fstat(self._file.fileno()).st_size])
        self._ends = starts[np.searchsorted(starts[:-1], self._starts, side="right")].tolist()

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, number: int) -> EncodedImage:
        """Errors: UserError naming file and record when it is damaged or holds no image."""
        start, what = self._starts[number], self.what(number)
        try:
            piece = os.pread(self._file.fileno(), min(max(0, self._ends[number] - start), MAX_RECORD), start)
            record = read_at(piece, 0, what)
        except OSError as error:
            raise UserError(f"{what} cannot be read: {error.strerror}") from error
        boxes = objects(record.label, what)
        whole = (boxes[:, 3:5] > boxes[:, 1:3]).all(axis=1)  # what has no area is no object
        return EncodedImage(record.data, Size(*check_header(record.data, what)), boxes[whole], what)

    def what(self, number: int) -> str:
        index = self.indices[number]
        return f"{self._records.rec}: image {index} ({self.names.get(index, 'not in the .lst')})"

    @cached_property
    def names(self) -> dict[int, str]:
        """Index of an image -> its file as the .lst names it; empty without a .lst."""
        return read_list(self._records.lst)

    def close(self) -> None:
        self._file.close()


def read_list(lst: Path) -> dict[int, str]:
    """Index of an image -> its file, from a .lst file, which may be absent. Errors: UserError for a line that is
    not: number, tab, label, tab, path; and for a number of two images."""
    if not lst.is_file():
        return {}
    names: dict[int, str] = {}
    for number, line in enumerate(read_text(lst, MAX_LIST, "a .lst file").split("\n"), start=1):
        columns = line.strip("\r").split("\t")
        if not line.strip():
            continue
        try:
            key = int(float(columns[0]))
        except (ValueError, OverflowError) as error:
            raise UserError(f"{lst}: line {number} must be: number, tab, label, tab, path") from error
        if names.setdefault(key, columns[-1]) != columns[-1]:
            raise UserError(f"{lst}: line {number}: number {key} stands for {names[key]} and {columns[-1]}")
    return names


def _read_index(records: Records) -> tuple[list[int], list[int]]:
    try:
        text = read_text(records.idx, MAX_LIST, "an index of records")
        lines = [line.split() for line in text.splitlines() if line.strip()]
        pairs = [(int(index), int(offset)) for index, offset in lines]
    except ValueError as error:
        raise UserError(f"{records.idx}: not an index, its lines must be: number, tab, offset") from error
    if not pairs or not all(0 <= offset < MOST_BYTES for _, offset in pairs):
        raise UserError(f"{records.idx}: not an index of images")
    return [index for index, _ in pairs], [offset for _, offset in pairs]
