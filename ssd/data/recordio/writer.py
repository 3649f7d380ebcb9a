"""Writing record files: images read and checked by threads, appended by one, resumed where a kill left off."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssd.data.base import BOX_COLUMNS, Sample
from ssd.data.images import as_mxnet_reads, check_header, decode, encode
from ssd.data.inspection.looking import size_problem
from ssd.data.recordio.format import encode_pieces, opened
from ssd.utils.errors import UserError
from ssd.utils.sequences import read_ahead

log = logging.getLogger(__name__)

HEADER = (2, BOX_COLUMNS)
NO_OBJECT = np.array([[-1, -1, -1, -1, -1, 0]], np.float64)
BATCH = 16  # images that a thread reads in one go; two batches for each thread are held in memory
THREADS = 2  # one waits for the disk while the other computes; more wait for each other's interpreter lock
MOST_PIECES = 1024  # that Linux writes in one call
JPEG_QUALITY = 95  # of images that are made smaller


@dataclass(frozen=True)
class Packing:
    """What is written: samples in an order drawn from seed; images longer than max_side (None = any) made smaller."""

    samples: Sequence[Sample]
    seed: int
    max_side: int | None = None

    def order(self) -> list[int]:
        return np.random.default_rng(self.seed).permutation(len(self.samples)).tolist()


def write_records(packing: Packing, prefix: Path, done: Callable[[int], None] | None = None) -> None:
    """Writes `prefix`.rec, .idx and .lst, resuming after whatever whole records are there.

    The index of an image is its position in the samples. Images must have passed ssd.data.inspection.gate; what costs
    nothing is checked again. Bytes go in untouched unless the image is too long, or MXNet would not read them as
    OpenCV does (as_mxnet_reads). Paths in the .lst are relative to the folder that all images share. done: called with
    the number of packed images.
    """
    order = packing.order()
    folders = {sample.path.absolute().parent for sample in packing.samples}
    root = os.path.join(os.path.commonpath(folders), "")
    files = [prefix.with_name(prefix.name + suffix) for suffix in (".rec", ".idx", ".lst")]
    count, sizes = _whole(files, packing, order)
    if count:
        log.info("%s: goes on behind the %d of %d images that are packed", prefix.name, count, len(order))
    with open(files[0], "ab") as rec, open(files[1], "ab") as idx, open(files[2], "ab") as lst:
        for file, size in zip((rec, idx, lst), sizes, strict=True):
            if file.tell() != size:
                file.truncate(size)
                file.seek(size)
        for batch in _batches(packing, order[count:], root):
            starts = np.cumsum([sizes[0], *batch.lengths]).tolist()
            idx.write("".join(f"{index}\t{at}\n" for index, at in zip(batch.indices, starts, strict=False)).encode())
            lst.write(batch.lines)
            write_pieces(rec.fileno(), batch.records)
            sizes[0] = starts[-1]
            for file in (idx, lst):  # so that a kill loses no more than a batch
                file.flush()
            count += len(batch.indices)
            if done:
                done(count)


@dataclass(frozen=True)
class _Batch:
    """What some images add to the files; records: pieces of their bytes; lengths: bytes of each record."""

    indices: Sequence[int]
    records: list[bytes]
    lengths: list[int]
    lines: bytes


def _batch(packing: Packing, indices: Sequence[int], root: str) -> _Batch:
    pieces: list[bytes] = []
    lengths, lines = [], []
    for index in indices:
        sample = packing.samples[index]
        label = label_of(sample)
        record = encode_pieces(index, label, _checked(sample, packing.max_side))
        pieces += record
        lengths.append(sum(map(len, record)))
        lines.append(list_line(index, label, str(sample.path.absolute()).removeprefix(root)))
    return _Batch(indices, pieces, lengths, "".join(lines).encode(errors="surrogateescape"))


def _batches(packing: Packing, order: Sequence[int], root: str) -> Iterator[_Batch]:
    """The images in the given order, in batches that threads read a little ahead of the writer."""
    parts = (order[start : start + BATCH] for start in range(0, len(order), BATCH))
    return read_ahead(lambda part: _batch(packing, part, root), parts, 2 * THREADS, THREADS)


def write_pieces(file: int, pieces: list[bytes]) -> None:
    """Appends to a file descriptor, in few calls and uncopied: the writer must queue for the interpreter at each."""
    for start in range(0, len(pieces), MOST_PIECES):
        part = pieces[start : start + MOST_PIECES]
        written = os.writev(file, part)
        if written < sum(map(len, part)):
            rest = memoryview(b"".join(part))[written:]
            while rest:
                rest = rest[os.write(file, rest) :]


def list_line(index: int, label: np.ndarray, path: str) -> str:
    """One line of a .lst file: label = [2, W, rows ...] flat, corners with six decimals (1/1000 pixel at 1000)."""
    numbers = "\t".join(f"{value:.6f}" for value in label[len(HEADER) :])
    return f"{index}\t{label[0]:.0f}\t{label[1]:.0f}\t{numbers}\t{path}\n"


def label_of(sample: Sample) -> np.ndarray:
    """float64 [2 + 6 * N]: the header and the rows of a sample, corners divided by the image's size."""
    rows = sample.boxes.astype(np.float64)
    rows[:, 1:5] /= (sample.width, sample.height, sample.width, sample.height)
    return np.concatenate([HEADER, (rows if len(rows) else NO_OBJECT).ravel()])


def _whole(files: Sequence[Path], packing: Packing, order: Sequence[int]) -> tuple[int, list[int]]:
    """How many images of the order are whole in all three files, and the sizes of the files up to there."""
    rec, idx, lst = files
    if not all(file.is_file() for file in files):
        return 0, [0, 0, 0]
    starts, idx_ends = _lines(idx)
    _, lst_ends = _lines(lst)
    count = min(len(starts), len(lst_ends), len(order))
    with opened(rec) as view:
        # Appended in one stream: when the last record is what it should be, those before it are.
        while count:
            index = order[count - 1]
            try:
                start = int(starts[count - 1].removeprefix(f"{index}\t".encode()))
            except ValueError:
                start = len(view)
            sample = packing.samples[index]
            expected = b"".join(encode_pieces(index, label_of(sample), _checked(sample, packing.max_side)))
            if view[start : start + len(expected)] == expected:
                return count, [start + len(expected), idx_ends[count - 1], lst_ends[count - 1]]
            count -= 1
    return 0, [0, 0, 0]


def _lines(file: Path) -> tuple[list[bytes], list[int]]:
    """The whole lines of a file, and the byte behind each."""
    lines = [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return lines, np.cumsum([len(line) for line in lines], dtype=np.int64).tolist()


def _checked(sample: Sample, max_side: int | None) -> bytes:
    """The bytes that go into the record. Errors: UserError for an image that is no longer what the gate has seen."""
    data, what = sample.read(), str(sample.path)
    # Decoding every image takes ten times as long as copying it, and has been done (ssd.data.inspection.gate).
    size = check_header(data, what)
    if problem := size_problem(sample, size):
        raise UserError(f"{what}: {problem}")
    if max_side is not None and max(size) > max_side:
        scale = max_side / max(size)
        smaller = [max(1, round(side * scale)) for side in size]
        image = cv2.resize(decode(data, what), smaller, interpolation=cv2.INTER_AREA)
        return encode(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return as_mxnet_reads(data, what)
