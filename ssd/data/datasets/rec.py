"""Datasets that are packed: .rec files, with or without .lst and .idx, made by the original mxnet-ssd or im2rec.

The label of an image is [A, W, A - 2 other numbers, then W per object: class xmin ymin xmax ymax ...], corners as
shares of the image. The original wrote A = 2 and W = 5, or W = 6 with `difficult`.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ssd.data.base import Dataset, Sample, empty_boxes
from ssd.data.coverage import UNNAMED, Coverage
from ssd.data.datasets.listing import existing_root
from ssd.data.datasets.named_images import clean, ids
from ssd.data.datasets.splits import HoldOut
from ssd.data.images import as_mxnet_reads, check_header
from ssd.data.inspection.checks import BoxChecker, class_index, class_names
from ssd.data.inspection.problems import skip_invalid
from ssd.data.recordio.cache import Records
from ssd.data.recordio.format import Record, objects, opened, read_at, scan
from ssd.data.recordio.reader import MAX_LIST, read_list
from ssd.data.recordio.writer import list_line
from ssd.utils.atomic_files import atomic_dir, read_text, sweep
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

WIDTHS = (5, 6)  # of an object, as training reads it


@dataclass(frozen=True, eq=False)
class RecordSample(Sample):
    """An image inside a record file; its path is that of the file with the image's name behind."""

    file: Path = Path()
    start: int = 0  # byte of the record
    length: int = 0  # bytes of the image

    def read(self) -> bytes:
        with opened(self.file) as view:
            return read_at(view, self.start, f"{self.path}: the record at byte {self.start}").data

    def stamp(self) -> tuple[int, int]:
        status = self.file.stat()
        return self.start, status.st_mtime_ns

    def size(self) -> int:
        return self.length


@dataclass(frozen=True)
class Entry:
    """What a record says of its image: number: its place in the file, from 0; key: its id, by which a .lst names it;
    boxes [N, 6] as shares; raw: its label as it lies.

    usual: whether MXNet's iterator decodes the image as we do. error: why the record cannot be used.
    """

    number: int
    key: int
    name: str
    start: int
    raw: np.ndarray
    boxes: np.ndarray
    size: tuple[int, int] = (0, 0)
    length: int = 0
    usual: bool = True
    error: UserError | None = None


class Rec(Dataset):
    """splits: for "train", "val" and "test" a .rec file below root, or None; without a val split one is held out.

    names: the classes that the labels number from 0. classes: None = names, else their order. out_of_range: "error",
    "clip" or "drop". A file whose labels are as training reads them (records()) is trained on as it lies.
    """

    def __init__(
        self,
        root: str | None,
        names: str | Sequence[str] | None,
        classes: Sequence[str] | None,
        splits: Mapping[str, str | None],
        out_of_range: str,
        holdout: Mapping[str, Any],
    ) -> None:
        if names is None or names == []:
            raise UserError(
                "dataset.names is not set: records number their classes, name them: dataset.names=[cat,dog]"
            )
        self.root = root
        self.names = class_names(names, "dataset.names")
        self.classes = tuple(classes or self.names)
        self.splits = {name: str(file) for name, file in splits.items() if file}
        self.out_of_range = out_of_range
        self.holdout = HoldOut.from_config(holdout)
        self.available = self.holdout.available(self.splits)
        self._read: dict[str, list[Entry]] = {}

    @cached_property
    def _to(self) -> np.ndarray:
        return np.array([class_index(name, self.classes, "dataset.names") for name in self.names])

    def split(self, name: str) -> list[Sample]:
        checker = BoxChecker(self.out_of_range)
        entries = self.holdout.pick(name, self.splits, self._members, lambda entry: entry[1].name, self._look_of)
        samples: list[Sample] = []
        for (split, entry), identifier in zip(entries, ids([clean(entry.name) for _, entry in entries]), strict=True):
            with skip_invalid("unusable", str(self._path(split))):
                samples.append(self._sample(self._path(split), identifier, entry, checker))
        checker.report()
        return samples

    def coverage(self, split: str) -> Coverage:
        """Lines of the .lst whose image the .rec does not hold, and records that the .lst does not name."""
        if split not in self.splits:  # cut from the images to train on: their files are named there
            return Coverage()
        lst = self._path(split).with_suffix(".lst")
        names, keys = read_list(lst), {entry.key for _, entry in self._members(split)}
        orphans = [f"{lst.name}: {number} ({name.strip()})" for number, name in names.items() if number not in keys]
        unnamed = [f"{self.splits[split]}: {key}" for key in sorted(keys - names.keys())] if names else []
        return Coverage(orphans=tuple(orphans), skipped={UNNAMED: tuple(unnamed)} if unnamed else {})

    def records(self, split: str, folder: Path) -> Records | None:
        """The file of a split, where training can read it; with an .idx and a .lst of its own in `folder`.

        Not so when images are held out of it or cannot be used, when MXNet decodes one otherwise than OpenCV, or when
        labels are not [2, 5 or 6, objects ...] with checked boxes.
        """
        if split not in self.splits or (split == "train" and not {"val"} <= self.splits.keys()):
            return None
        if split == "train" and self.holdout.test and "test" not in self.splits:
            return None
        path, entries = self._path(split), [entry for _, entry in self._members(split)]
        if any(entry.error or not entry.usual for entry in entries):
            return None
        samples = self.split(split)
        widths = {int(entry.raw[1]) for entry in entries}
        if (
            len(widths) != 1
            or not widths <= set(WIDTHS)
            or not np.array_equal(self._to, np.arange(len(self.names)))
            or any(entry.raw[0] != 2 or len(entry.raw) < 2 + entry.raw[1] for entry in entries)
            or any(len(sample.boxes) != len(entry.boxes) for sample, entry in zip(samples, entries, strict=True))
            or any(
                entry.boxes[:, 1:5].min(initial=0) < 0 or entry.boxes[:, 1:5].max(initial=1) > 1 for entry in entries
            )
            or len({entry.key for entry in entries}) < len(entries)
        ):
            return None
        (width,) = widths
        status = path.stat()
        digest = hashlib.sha256(
            json.dumps([str(path.resolve()), status.st_size, status.st_mtime_ns]).encode()
        ).hexdigest()
        target = folder / f"{split}-{digest[:12]}"
        sweep(folder)
        if not target.is_dir():
            with atomic_dir(target) as draft:
                index = "".join(f"{entry.key}\t{entry.start}\n" for entry in entries)
                (draft / f"{split}.idx").write_text(index)
                lines = "".join(list_line(entry.key, entry.raw, entry.name) for entry in entries)
                (draft / f"{split}.lst").write_text(lines, encoding="utf-8")
        most = max(len(entry.raw) for entry in entries)
        return Records(path, target / f"{split}.idx", target / f"{split}.lst", len(entries), most, width)

    def _path(self, split: str) -> Path:
        return existing_root(self.root, "the .rec files of dataset.splits") / self.splits[split]

    def _members(self, split: str) -> list[tuple[str, Entry]]:
        if split not in self.splits:
            raise UserError(
                f"dataset.splits.{split} is not set: name a .rec file, e.g. dataset.splits.{split}={split}.rec"
            )
        if split not in self._read:
            path = self._path(split)
            names = read_list(path.with_suffix(".lst"))
            with opened(path) as view:
                entries = []
                for number, record in enumerate(scan(view, str(path))):
                    entries.append(_entry(number, record, names, path))
            if not entries:
                raise UserError(f"{path}: holds no records")
            self._read[split] = _told_apart(entries, path)
            _check_index(path, self._read[split])
        return [(split, entry) for entry in self._read[split]]

    def _look_of(self, member: tuple[str, Entry]) -> Sample:
        path, entry = self._path(member[0]), member[1]
        return RecordSample("", path / entry.name, *entry.size, empty_boxes(), file=path, start=entry.start)

    def _sample(self, path: Path, identifier: str, entry: Entry, checker: BoxChecker) -> Sample:
        if entry.error:
            raise entry.error
        width, height = entry.size
        rows = entry.boxes * (1, width, height, width, height, 1)
        where = f"{path}: record {entry.number} ({entry.name})"
        if len(rows) and not rows[:, 0].max() < len(self.names):
            raise UserError(
                f"{where}: class {rows[:, 0].max():g} has no name, there are {len(self.names)} (dataset.names)"
            )
        rows[:, 0] = self._to[rows[:, 0].astype(int)]
        return RecordSample(
            identifier, path / entry.name, width, height, checker.check(rows.tolist(), entry.size, where),
            file=path, start=entry.start, length=entry.length,
        )  # fmt: skip


def _entry(number: int, record: Record, names: Mapping[int, str], path: Path) -> Entry:
    name = names.get(record.id, "").strip() or f"{record.id:08d}"
    where = f"{path}: record {number} ({name})"
    plain = Entry(number, record.id, name, record.start, record.label, empty_boxes())
    try:
        boxes = objects(record.label, where)
        size = check_header(record.data, where)
        usual = as_mxnet_reads(record.data, where) is record.data
    except UserError as error:
        return replace(plain, error=error)
    return replace(plain, boxes=boxes, size=size, length=len(record.data), usual=usual)


def _told_apart(entries: Sequence[Entry], path: Path) -> list[Entry]:
    """Records that share their id, which no .lst can name, are called by their place in the file."""
    counts = Counter(entry.key for entry in entries)
    double = [entry for entry in entries if counts[entry.key] > 1]
    if double:
        log.warning(
            "%s: %d records share their ids, such as %d: they are named by their place in the file",
            path, len(double), double[0].key,
        )  # fmt: skip
    return [
        replace(entry, name=f"{entry.key:08d}_{entry.number}") if counts[entry.key] > 1 else entry for entry in entries
    ]


def _check_index(path: Path, entries: Sequence[Entry]) -> None:
    """A line when the .idx beside a .rec is another file's: whoever reads by it gets other images than this."""
    idx = path.with_suffix(".idx")
    if not idx.is_file():
        return
    try:
        lines = read_text(idx, MAX_LIST, "an index of records").splitlines()
        rows = [line.split() for line in lines if line.strip()]
        listed = {(int(key), int(start)) for key, start in rows}
    except (UserError, ValueError):
        listed = set()
    there = {(entry.key, entry.start) for entry in entries}
    if listed != there:
        log.warning("%s does not belong to %s: %d of its %d records are elsewhere; it is not used here",
                    idx, path.name, len(there - listed), len(there))  # fmt: skip
