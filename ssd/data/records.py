"""Pictures and boxes packed into .rec, .idx and .lst files, in the format of MXNet's im2rec and the original mxnet-ssd.

.lst, one line per picture, tab-separated: index  2  6  (class xmin ymin xmax ymax difficult)*N  path
.rec, one record per picture: a header whose label is the same floats after the index, then the encoded picture.
.idx: index, tab, byte offset of the record.
2 is the width of the label's header and 6 that of an object; corners are shares 0..1 of the picture's size. A
picture without objects has the one row -1 -1 -1 -1 -1 0, which MXNet's iterator takes for "no object" (it aborts on
a label without rows).
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssd.data.dataset import BOX_COLUMNS, Sample
from ssd.data.headers import picture_format
from ssd.data.images import decode, verify
from ssd.engine import mx
from ssd.errors import UserError
from ssd.files import whole_folder

log = logging.getLogger(__name__)

FORMAT = 1  # counted up when what is written below changes, so that older packings are not taken for current ones
HEADER = (2, BOX_COLUMNS)
NO_OBJECT = np.array([[-1, -1, -1, -1, -1, 0]], np.float64)
MIN_ROWS = 3  # MultiBoxTarget on a GPU reads past labels of fewer rows
READ_AHEAD = 128  # pictures verified side by side and held in memory
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Records:
    """A packed split: its files, the number of pictures, and the label_pad_width its fullest picture needs."""

    rec: Path
    idx: Path
    lst: Path
    count: int
    label_width: int


def label_width(samples: Sequence[Sample]) -> int:
    """The label_pad_width that holds every picture's objects: 2 + 6 * rows, at least three rows."""
    return len(HEADER) + BOX_COLUMNS * max([MIN_ROWS, *(len(sample.boxes) for sample in samples)])


def ensure_records(samples: Sequence[Sample], folder: Path, split: str, seed: int) -> Records:
    """The records of `samples`, packed on first use into `folder`/<split>-<digest>/<split>.rec, .idx and .lst.

    The digest covers ids, boxes, sizes and times of the picture files, the seed and the format: when one changes,
    other records are packed beside the old ones, which a running job may still be reading. A packing appears
    complete or not at all, also when several processes pack at once. seed decides the order of the pictures.
    UserError naming the picture when one is missing, damaged or not of its annotation's size.
    """
    if not samples:
        raise UserError(f"the {split} split has no pictures to pack")
    target = Path(folder) / f"{split}-{_digest(samples, seed)}"
    if not target.is_dir():
        with whole_folder(target) as draft:
            write_records(samples, draft / split, seed)
        _mention_older(target, split)
    rec, idx, lst = (target / f"{split}{suffix}" for suffix in (".rec", ".idx", ".lst"))
    return Records(rec, idx, lst, len(samples), label_width(samples))


def write_records(samples: Sequence[Sample], prefix: Path, seed: int) -> None:
    """Writes `prefix`.rec, .idx and .lst; the index of a picture is its position in `samples`, their order random.

    Pictures are verified to decode and to have the annotated size. JPEG, PNG and BMP bytes go in untouched; others,
    which MXNet cannot read, as PNG. Paths in the .lst are relative to the folder that all pictures share.
    """
    root = os.path.commonpath([sample.path.absolute().parent for sample in samples])
    order = np.random.default_rng(seed).permutation(len(samples))
    log.info("packing %d pictures into %s.rec", len(samples), prefix.name)
    started = said = time.monotonic()
    record = mx.recordio.MXIndexedRecordIO(f"{prefix}.idx", f"{prefix}.rec", "w")
    try:
        with open(f"{prefix}.lst", "w", encoding="utf-8") as lines:
            for done, (index, data) in enumerate(_pictures(samples, order), start=1):
                label = _label(samples[index])
                record.write_idx(index, mx.recordio.pack(mx.recordio.IRHeader(0, label, index, 0), data))
                lines.write(list_line(index, label, os.path.relpath(samples[index].path.absolute(), root)))
                if time.monotonic() - said > SECONDS_BETWEEN_LINES:
                    said = time.monotonic()
                    log.info("packed %d of %d pictures", done, len(samples))
    finally:
        record.close()
    log.info("packed %d pictures in %.1f s", len(samples), time.monotonic() - started)


def list_line(index: int, label: np.ndarray, path: str) -> str:
    """One line of a .lst file: label = [2, 6, rows ...] flat, corners with six decimals (1/1000 pixel at 1000)."""
    numbers = "\t".join(f"{value:.6f}" for value in label[len(HEADER) :])
    return f"{index}\t{HEADER[0]}\t{HEADER[1]}\t{numbers}\t{path}\n"


def _label(sample: Sample) -> np.ndarray:
    """float64 [2 + 6 * N]: the header and the rows of a sample, corners divided by the picture's size."""
    rows = sample.boxes.astype(np.float64)
    rows[:, 1:5] /= (sample.width, sample.height, sample.width, sample.height)
    return np.concatenate([HEADER, (rows if len(rows) else NO_OBJECT).ravel()])


def _pictures(samples: Sequence[Sample], order: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """(index, bytes) in the given order; several threads read and verify a few pictures ahead, not the whole set."""
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(order), READ_AHEAD):
            indices = [int(index) for index in order[start : start + READ_AHEAD]]
            yield from zip(indices, threads.map(_verified, [samples[index] for index in indices]), strict=True)


def _verified(sample: Sample) -> bytes:
    data = sample.read()
    what = str(sample.path)
    size = verify(data, what)
    if size != (sample.width, sample.height):
        turned = " (its EXIF orientation turns it: save it upright)" if size == (sample.height, sample.width) else ""
        raise UserError(
            f"{what}: the image is {size[0]}x{size[1]} but its annotation says {sample.width}x{sample.height}{turned}"
        )
    if picture_format(data) == "webp":
        data = cv2.imencode(".png", cv2.cvtColor(decode(data, what), cv2.COLOR_RGB2BGR))[1].tobytes()
    return data


def _digest(samples: Sequence[Sample], seed: int) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, seed]).encode())
    for sample in samples:
        try:
            status = sample.path.stat()
        except OSError as error:
            raise UserError(f"{sample.path}: cannot read the image: {error.strerror}") from error
        facts = [sample.id, sample.width, sample.height, status.st_size, status.st_mtime_ns, len(sample.boxes)]
        digest.update(json.dumps(facts).encode())
        digest.update(np.ascontiguousarray(sample.boxes, np.float32).tobytes())
    return digest.hexdigest()[:12]


def _mention_older(target: Path, split: str) -> None:
    older = [folder for folder in target.parent.glob(f"{split}-*") if folder != target]
    if older:
        megabytes = sum(file.stat().st_size for folder in older for file in folder.iterdir()) / 1e6
        log.info("%s holds %d other packings of %s (%.0f MB); what no run uses can be deleted",
                 target.parent, len(older), split, megabytes)  # fmt: skip
