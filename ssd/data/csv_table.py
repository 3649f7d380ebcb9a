"""Data sets of pictures whose boxes stand in CSV files."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ssd.data import csv_text
from ssd.data.checks import BoxChecker, class_index
from ssd.data.csv_text import COLUMNS, Row
from ssd.data.dataset import Dataset, Sample
from ssd.data.files import existing_root, picture_sizes, read_text
from ssd.data.problems import skipping
from ssd.data.splits import HoldOut
from ssd.errors import UserError

UNITS = ("pixels", "normalised")


class CSV(Dataset):
    """splits: for "train", "val" and "test" a file below root, several, or None; without a val split one is held out.

    folder: the one below root that the paths in the files are relative to. columns, header, delimiter: the form of
    the files, see conf/dataset/csv.yaml. units: whether corners are "pixels" (continuous, 0..width) or "normalised"
    (0..1). classes: None = all names found, sorted. out_of_range: "error", "clip" or "drop".
    """

    def __init__(
        self,
        root: str | None,
        classes: Sequence[str] | None,
        splits: Mapping[str, str | Sequence[str] | None],
        folder: str,
        columns: Mapping[str, str | int],
        header: bool,
        delimiter: str,
        units: str,
        out_of_range: str,
        holdout: Mapping[str, float],
    ) -> None:
        self.root = root
        self.given_classes = None if classes is None else tuple(classes)
        self.splits = {
            name: [node] if isinstance(node, str) else [str(entry) for entry in node]
            for name, node in splits.items()
            if node
        }
        self.folder = folder
        if set(columns) != set(COLUMNS):
            raise UserError(f"dataset.columns must say where {', '.join(COLUMNS)} are")
        self.columns = columns
        self.header = header
        if len(delimiter) != 1 or delimiter in '"\r\n\0 ':
            raise UserError(f"dataset.delimiter is {delimiter!r}, it must be one character such as , ; or a tab")
        self.delimiter = delimiter
        if units not in UNITS:
            raise UserError(f"dataset.units is {units!r}, it must be one of {', '.join(UNITS)}")
        self.units = units
        self.out_of_range = out_of_range
        self.holdout = HoldOut.from_config(holdout)
        self.available = self.holdout.available(self.splits)
        self._read: dict[str, dict[str, list[Row]]] = {}

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        if self.given_classes is not None:
            return self.given_classes
        found = {row.label for split in self.splits for _, rows in self._members(split) for row in rows if row.label}
        if not found:
            raise UserError(f"{self._root()}: no line of dataset.splits has a class")
        return tuple(sorted(found))

    def split(self, name: str) -> list[Sample]:
        checker = BoxChecker(self.out_of_range)
        members = self.holdout.pick(name, self.splits, self._members, lambda member: member[0])
        folder = self._root() / self.folder
        sizes = picture_sizes([folder / image for image, _ in members])
        samples = []
        for (image, rows), size in zip(members, sizes, strict=True):
            with skipping("unusable", str(folder / image)):
                samples.append(self._sample(folder / image, size.result(), rows, checker))
        checker.report()
        return samples

    def _root(self) -> Path:
        return existing_root(self.root, "the CSV files of dataset.splits")

    def _members(self, split: str) -> list[tuple[str, list[Row]]]:
        """(picture, its lines), pictures in the order of their first line."""
        if split not in self.splits:
            raise UserError(
                f"dataset.splits.{split} is not set: name a CSV file, e.g. dataset.splits.{split}={split}.csv"
            )
        found: dict[str, list[Row]] = {}
        for entry in self.splits[split]:
            for image, rows in self._file(entry).items():
                found.setdefault(image, []).extend(rows)
        if not found:
            raise UserError(f"{self._root() / self.splits[split][0]}: has no lines")
        return list(found.items())

    def _file(self, entry: str) -> dict[str, list[Row]]:
        if entry not in self._read:
            path = self._root() / entry
            text = read_text(path, csv_text.MAX_BYTES, "a CSV file")
            pictures: dict[str, list[Row]] = {}
            for row in csv_text.parse(text, self.columns, self.header, self.delimiter, str(path)):
                pictures.setdefault(row.image, []).append(row)
            self._read[entry] = pictures
        return self._read[entry]

    def _sample(self, path: Path, size: tuple[int, int], rows: Sequence[Row], checker: BoxChecker) -> Sample:
        scale = size if self.units == "normalised" else (1, 1)
        boxes = []
        for row in rows:
            if row.box is not None:
                index = class_index(row.label, self.classes, f"{path.name}: line {row.line}")
                xmin, ymin, xmax, ymax = row.box
                boxes.append((index, xmin * scale[0], ymin * scale[1], xmax * scale[0], ymax * scale[1], 0))
        where = f"{path} (line {rows[0].line} on)" if rows else str(path)
        return Sample(path.stem, path, *size, checker.check(boxes, size, where))
