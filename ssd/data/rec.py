"""Data sets that are packed: .rec files, with or without .lst and .idx, made by the original mxnet-ssd or im2rec.

The label of a picture is [A, W, A - 2 other numbers, then W per object: class xmin ymin xmax ymax ...], corners as
shares of the picture. The original wrote A = 2 and W = 5, or W = 6 with `difficult`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ssd.data.checks import BoxChecker, class_index
from ssd.data.dataset import Dataset, Sample
from ssd.data.files import existing_root, read_text
from ssd.data.images import check_header
from ssd.data.packing import list_line
from ssd.data.problems import skipping
from ssd.data.record_format import Record, objects, opened, read_at, scan
from ssd.data.records import Records
from ssd.data.splits import HoldOut
from ssd.errors import UserError
from ssd.files import whole_folder

MAX_LIST_BYTES = 2_000_000_000
WIDTHS = (5, 6)  # of an object, as training reads it


@dataclass(frozen=True, eq=False)
class RecordSample(Sample):
    """A picture inside a record file; its path is that of the file with the picture's name behind."""

    file: Path = Path()
    start: int = 0  # byte of the record

    def read(self) -> bytes:
        with opened(self.file) as view:
            return read_at(view, self.start, f"{self.path}: the record at byte {self.start}").data

    def stamp(self) -> tuple[int, int]:
        status = self.file.stat()
        return self.start, status.st_mtime_ns


@dataclass(frozen=True)
class Entry:
    """What a record says of its picture: boxes [N, 6] as shares; raw: its label as it lies."""

    key: int
    name: str
    size: tuple[int, int]
    boxes: np.ndarray
    raw: np.ndarray
    start: int


class Rec(Dataset):
    """splits: for "train", "val" and "test" a .rec file below root, or None; without a val split one is held out.

    names: the classes that the labels number from 0. classes: None = names, else their order. out_of_range: "error",
    "clip" or "drop". A file whose labels are as training reads them (records()) is trained on as it lies.
    """

    def __init__(
        self,
        root: str | None,
        names: Sequence[str] | None,
        classes: Sequence[str] | None,
        splits: Mapping[str, str | None],
        out_of_range: str,
        holdout: Mapping[str, Any],
    ) -> None:
        if not names:
            raise UserError(
                "dataset.names is not set: records number their classes, name them: dataset.names=[cat,dog]"
            )
        self.root = root
        self.names = tuple(names)
        self.classes = tuple(classes or names)
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
        entries = self.holdout.pick(name, self.splits, self._members, lambda entry: entry[1].name)
        samples: list[Sample] = []
        for split, entry in entries:
            with skipping("unusable", str(self._path(split))):
                samples.append(self._sample(self._path(split), entry, checker))
        checker.report()
        return samples

    def records(self, split: str, folder: Path) -> Records | None:
        """The file of a split, where training can read it; with an .idx and a .lst of its own in `folder`.

        Not so when pictures are held out of it, or labels are not [2, 5 or 6, objects ...] with checked boxes.
        """
        if split not in self.splits or (split == "train" and not {"val"} <= self.splits.keys()):
            return None
        if split == "train" and self.holdout.test and "test" not in self.splits:
            return None
        path, entries = self._path(split), [entry for _, entry in self._members(split)]
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
        if not target.is_dir():
            with whole_folder(target) as draft:
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
            names = _names(path.with_suffix(".lst"))
            with opened(path) as view:
                self._read[split] = [
                    _entry(record, names, f"{path}: record {number} (id {record.id})")
                    for number, record in enumerate(scan(view, str(path)))
                ]
            if not self._read[split]:
                raise UserError(f"{path}: holds no records")
        return [(split, entry) for entry in self._read[split]]

    def _sample(self, path: Path, entry: Entry, checker: BoxChecker) -> Sample:
        width, height = entry.size
        rows = entry.boxes * (1, width, height, width, height, 1)
        where = f"{path}: {entry.name}"
        if len(rows) and not rows[:, 0].max() < len(self.names):
            raise UserError(
                f"{where}: class {rows[:, 0].max():g} has no name, there are {len(self.names)} (dataset.names)"
            )
        rows[:, 0] = self._to[rows[:, 0].astype(int)]
        return RecordSample(
            Path(entry.name).stem, path / entry.name, width, height, checker.check(rows.tolist(), entry.size, where),
            file=path, start=entry.start,
        )  # fmt: skip


def _names(lst: Path) -> dict[int, str]:
    """Picture names by id from a .lst file, which may be absent."""
    if not lst.is_file():
        return {}
    names = {}
    for number, line in enumerate(read_text(lst, MAX_LIST_BYTES, "a .lst file").splitlines(), start=1):
        columns = line.split("\t")
        if not line.strip():
            continue
        try:
            names[int(float(columns[0]))] = columns[-1].strip()
        except (ValueError, OverflowError) as error:
            raise UserError(f"{lst}: line {number} must be: number, tab, label, tab, path") from error
    return names


def _entry(record: Record, names: Mapping[int, str], where: str) -> Entry:
    boxes = objects(record.label, where)
    size = check_header(record.data, where)
    return Entry(record.id, names.get(record.id) or f"{record.id:08d}", size, boxes, record.label, record.start)
