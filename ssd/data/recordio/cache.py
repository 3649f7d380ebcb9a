"""Images and boxes packed into .rec, .idx and .lst files, in the format of MXNet's im2rec and the original mxnet-ssd.

.lst, one line per image, tab-separated: index  2  6  (class xmin ymin xmax ymax difficult)*N  path
.rec, one record per image: a header whose label is the same floats after the index, then the encoded image.
.idx: index, tab, byte offset of the record.
2 is the width of the label's header and 6 that of an object; corners are shares 0..1 of the image's size. A
image without objects has the one row -1 -1 -1 -1 -1 0, which MXNet's iterator takes for "no object" (it aborts on
a label without rows).
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd.data.base import BOX_COLUMNS, Sample
from ssd.data.recordio.writer import HEADER, Packing, label_of, write_records
from ssd.utils.atomic_files import exclusive_dir, publish, require_space
from ssd.utils.errors import UserError
from ssd.utils.progress import progress

log = logging.getLogger(__name__)

FORMAT = 2  # counted up when what is written changes, so that older packings are not taken for current ones
RECORDS = "records.json"  # in a run directory: split -> folder of the records that the run reads
ADVICE = "training.records= names another folder, job=clean finds records that no run needs"
MIN_ROWS = 3  # MultiBoxTarget on a GPU reads past labels of fewer rows


@dataclass(frozen=True)
class Records:
    """A packed split: its files, the number of images, and the label_pad_width its fullest image needs.

    object_width: numbers per object, 6; 5 (without difficult) in some files that were made elsewhere.
    """

    rec: Path
    idx: Path
    lst: Path
    count: int
    label_width: int
    object_width: int = BOX_COLUMNS

    @property
    def folder(self) -> Path:
        """Where what was written for the run lies: all of them, or idx and lst where rec was made elsewhere."""
        return self.idx.parent


def label_width(samples: Sequence[Sample]) -> int:
    """The label_pad_width that holds every image's objects: 2 + 6 * rows, at least three rows."""
    return len(HEADER) + BOX_COLUMNS * max([MIN_ROWS, *(len(sample.boxes) for sample in samples)])


def ensure_records(
    samples: Sequence[Sample], folder: Path, split: str, seed: int, max_side: int | None = None
) -> Records:
    """The records of `samples`, packed on first use into `folder`/<split>-<digest>/<split>.rec, .idx and .lst.

    seed decides the order of the images; those with a side longer than max_side are made smaller.

    The digest covers ids, boxes, sizes and times of the image files, the seed, max_side and the format: when one
    changes, other records are packed beside the old ones, which a running job may still be reading. A packing appears
    complete or not at all; of several processes one packs and the others wait. One that was killed is resumed.
    UserError naming the image when one is missing, damaged or not of its annotation's size.
    """
    if not samples:
        raise UserError(f"the {split} split has no images to pack")
    packing = Packing(samples, seed, max_side)
    target = Path(folder) / f"{split}-{_digest(packing)}"
    if not target.is_dir():
        _pack(packing, target, split)
    rec, idx, lst = (target / f"{split}{suffix}" for suffix in (".rec", ".idx", ".lst"))
    return Records(rec, idx, lst, len(samples), label_width(samples))


def _pack(packing: Packing, target: Path, split: str) -> None:
    draft = target.with_name(f".{target.name}.part")
    with exclusive_dir(draft):
        if target.is_dir():  # another process has packed it meanwhile
            shutil.rmtree(draft, ignore_errors=True)
            return
        count = len(packing.samples)
        log.info("packing %d images into %s", count, target)
        started = time.monotonic()
        try:
            require_space(target.parent, _needed(packing, draft), f"the records of {split}", ADVICE)
            with progress(f"packing {split}", count) as done:
                write_records(packing, draft / split, done)
        except Exception as error:
            # A bad image, once replaced, gives another digest; a full disk needs the room.
            shutil.rmtree(draft, ignore_errors=True)
            if isinstance(error, OSError):
                reason = f"{error.strerror or error} while the records of {split} were written"
                raise UserError(f"{target.parent}: {reason}; {ADVICE}") from error
            raise
        publish(draft, target)
        log.info("packed %d images in %.1f s", count, time.monotonic() - started)
    _mention_older(target, split)


def _needed(packing: Packing, draft: Path) -> int:
    """Bytes that a packing will write, at least; those of a draft are written."""
    longest = packing.max_side or math.inf  # longer ones are made smaller, nobody knows how much
    needed = sum(
        (sample.size() if max(sample.width, sample.height) <= longest else 0) + 4 * label_of(sample).size
        for sample in packing.samples
    )
    return max(0, needed - size_of(draft))


@contextlib.contextmanager
def in_use(records: Records) -> Iterator[None]:
    """Keeps job=clean, in any process, from removing them inside of the block. Errors: UserError when they are gone."""
    try:
        file = open(records.idx, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UserError(f"{records.idx}: {error.strerror}; was it removed while the job started?") from error
    with file:
        with contextlib.suppress(OSError):  # of file systems without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def unused(folder: Path) -> Iterator[bool]:
    """Whether no process is inside of in_use() of the records in a folder; none comes in while the block lasts."""
    with contextlib.ExitStack() as stack:
        for idx in folder.glob("*.idx"):
            file = stack.enter_context(open(idx, "rb"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
        yield True


def _digest(packing: Packing) -> str:
    facts = [FORMAT, packing.seed]
    digest = hashlib.sha256(json.dumps(facts if packing.max_side is None else [*facts, packing.max_side]).encode())
    for sample in packing.samples:
        row = [sample.id, sample.width, sample.height, *sample.stamp(), len(sample.boxes)]
        digest.update(json.dumps(row).encode())
        digest.update(np.ascontiguousarray(sample.boxes, np.float32).tobytes())
    return digest.hexdigest()[:12]


def _mention_older(target: Path, split: str) -> None:
    older = [
        folder for pattern in ("", ".") for folder in target.parent.glob(f"{pattern}{split}-*") if folder != target
    ]
    if older:
        megabytes = sum(map(size_of, older)) / 1e6
        log.info("%s holds %d other packings of %s (%.0f MB); job=clean finds what no run needs",
                 target.parent, len(older), split, megabytes)  # fmt: skip


def size_of(folder: Path) -> int:
    """Bytes in a folder, as far as it is still there: another process may be packing or have just removed it."""
    size = 0
    with contextlib.suppress(FileNotFoundError):
        for file in folder.iterdir():
            size += file.stat().st_size
    return size
