"""Pictures and boxes packed into .rec, .idx and .lst files, in the format of MXNet's im2rec and the original mxnet-ssd.

.lst, one line per picture, tab-separated: index  2  6  (class xmin ymin xmax ymax difficult)*N  path
.rec, one record per picture: a header whose label is the same floats after the index, then the encoded picture.
.idx: index, tab, byte offset of the record.
2 is the width of the label's header and 6 that of an object; corners are shares 0..1 of the picture's size. A
picture without objects has the one row -1 -1 -1 -1 -1 0, which MXNet's iterator takes for "no object" (it aborts on
a label without rows).
"""

import contextlib
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd.data.dataset import BOX_COLUMNS, Sample
from ssd.data.packing import HEADER, Packing, write_records
from ssd.data.progress import progress
from ssd.errors import UserError
from ssd.files import alone, publish

log = logging.getLogger(__name__)

FORMAT = 2  # counted up when what is written changes, so that older packings are not taken for current ones
MIN_ROWS = 3  # MultiBoxTarget on a GPU reads past labels of fewer rows


@dataclass(frozen=True)
class Records:
    """A packed split: its files, the number of pictures, and the label_pad_width its fullest picture needs.

    object_width: numbers per object, 6; 5 (without difficult) in some files that were made elsewhere.
    """

    rec: Path
    idx: Path
    lst: Path
    count: int
    label_width: int
    object_width: int = BOX_COLUMNS


def label_width(samples: Sequence[Sample]) -> int:
    """The label_pad_width that holds every picture's objects: 2 + 6 * rows, at least three rows."""
    return len(HEADER) + BOX_COLUMNS * max([MIN_ROWS, *(len(sample.boxes) for sample in samples)])


def ensure_records(
    samples: Sequence[Sample], folder: Path, split: str, seed: int, max_side: int | None = None
) -> Records:
    """The records of `samples`, packed on first use into `folder`/<split>-<digest>/<split>.rec, .idx and .lst.

    seed decides the order of the pictures; those with a side longer than max_side are made smaller.

    The digest covers ids, boxes, sizes and times of the picture files, the seed, max_side and the format: when one
    changes, other records are packed beside the old ones, which a running job may still be reading. A packing appears
    complete or not at all; of several processes one packs and the others wait. One that was killed is gone on with.
    UserError naming the picture when one is missing, damaged or not of its annotation's size.
    """
    if not samples:
        raise UserError(f"the {split} split has no pictures to pack")
    packing = Packing(samples, seed, max_side)
    target = Path(folder) / f"{split}-{_digest(packing)}"
    if not target.is_dir():
        _pack(packing, target, split)
    rec, idx, lst = (target / f"{split}{suffix}" for suffix in (".rec", ".idx", ".lst"))
    return Records(rec, idx, lst, len(samples), label_width(samples))


def _pack(packing: Packing, target: Path, split: str) -> None:
    draft = target.with_name(f".{target.name}.part")
    with alone(draft):
        if target.is_dir():  # another process has packed it meanwhile
            shutil.rmtree(draft, ignore_errors=True)
            return
        count = len(packing.samples)
        log.info("packing %d pictures into %s", count, target)
        started = time.monotonic()
        try:
            with progress(f"packing {split}", count) as done:
                write_records(packing, draft / split, done)
        except Exception:
            # A bad picture, once replaced, gives another digest; a full disk needs the room.
            shutil.rmtree(draft, ignore_errors=True)
            raise
        publish(draft, target)
        log.info("packed %d pictures in %.1f s", count, time.monotonic() - started)
    _mention_older(target, split)


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
        megabytes = sum(map(_size, older)) / 1e6
        log.info("%s holds %d other packings of %s (%.0f MB); what no run uses can be deleted",
                 target.parent, len(older), split, megabytes)  # fmt: skip


def _size(folder: Path) -> int:
    """Bytes in a folder, as far as it is still there: another process may be packing or have just removed it."""
    size = 0
    with contextlib.suppress(FileNotFoundError):
        for file in folder.iterdir():
            size += file.stat().st_size
    return size
