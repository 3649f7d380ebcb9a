"""Datasets of images whose boxes stand in CSV files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ssd.data.base import Dataset, Sample, only_image
from ssd.data.coverage import UNLISTED, Coverage
from ssd.data.datasets import csv_text
from ssd.data.datasets.csv_text import Form, Row
from ssd.data.datasets.listing import existing_root, image_sizes
from ssd.data.datasets.named_images import ImageFolder, clean, ids, relative
from ssd.data.datasets.splits import HoldOut
from ssd.data.inspection.checks import BoxChecker, class_index
from ssd.data.inspection.problems import skip_invalid
from ssd.utils.atomic_files import read_text
from ssd.utils.errors import UserError

UNITS = ("pixels", "normalized")
EARLIER_UNITS = {"normalised": "normalized"}  # as configurations before 0.2 spell it


class CSV(Dataset):
    """splits: for "train", "val" and "test" a file below root, several, or None; without a val split one is held out.

    folder: the one below root that the paths in the files are relative to. columns, header, delimiter: the form of
    the files, see conf/dataset/csv.yaml. units: whether corners are "pixels" (continuous, 0..width) or "normalized"
    (0..1). classes: None = all names found, sorted. out_of_range: "error", "clip" or "drop".
    The size of a sample is what the file says, or that of the image where it says nothing.
    """

    def __init__(
        self,
        root: str | None,
        classes: Sequence[str] | None,
        splits: Mapping[str, str | Sequence[str] | None],
        folder: str,
        columns: Mapping[str, str | int | None] | None,
        header: bool,
        delimiter: str | None,
        units: str,
        out_of_range: str,
        holdout: Mapping[str, float],
    ) -> None:
        self.root = root
        self.given_classes = None if classes is None else tuple(classes)
        self.splits = {
            name: [str(entry) for entry in node] if isinstance(node, (list, tuple)) else [str(node)]
            for name, node in splits.items()
            if node
        }
        self.folder = folder
        self.form = Form(columns or {}, header, delimiter)
        self.form.check()
        units = EARLIER_UNITS.get(units, units)
        if units not in UNITS:
            raise UserError(f"dataset.units={units}: expected {' or '.join(UNITS)}")
        self.units = units
        self.out_of_range = out_of_range
        self.holdout = HoldOut.from_config(holdout)
        self.available = self.holdout.available(self.splits)
        self._read: dict[str, dict[Path, Entry]] = {}

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        if self.given_classes is not None:
            return self.given_classes
        entries = [entry for split in self.splits for entry in self._members(split)]
        found = {row.label for entry in entries for row in entry.rows if row.label}
        if not found:
            raise UserError(f"{self._root()}: no line of dataset.splits has a class")
        return tuple(sorted(found))

    def split(self, name: str) -> list[Sample]:
        checker = BoxChecker(self.out_of_range)
        entries = self._picked(name)
        unknown = [entry.path for entry in entries if entry.path is not None and entry.size is None]
        sizes = dict(zip(unknown, image_sizes(unknown), strict=True))
        samples = []
        for entry, identifier in zip(entries, ids([entry.name for entry in entries]), strict=True):
            with skip_invalid("unusable", entry.where):
                if entry.path is None:
                    raise UserError(f"{entry.where}: {entry.missing}")
                size = entry.annotated_size() or sizes[entry.path].result()
                samples.append(self._sample(identifier, entry, size, checker))
        checker.report()
        return samples

    def coverage(self, split: str) -> Coverage:
        """Images beside those of the split that no file of any split lists."""
        if split not in self.splits:  # cut from the images to train on: what lies beside them is named there
            return Coverage()
        listed = {entry.path for name in self.splits for entry in self._members(name)}
        places = [self._images.folder, *(entry.path.parent for entry in self._members(split) if entry.path)]
        others = [path for path in self._images.images(places) if path not in listed]
        found = tuple(relative(path, self._root()) for path in others)
        return Coverage(skipped={UNLISTED: found} if found else {})

    def _picked(self, split: str) -> list["Entry"]:
        return self.holdout.pick(split, self.splits, self._members, lambda entry: entry.name, _look_of)

    def _root(self) -> Path:
        return existing_root(self.root, "the CSV files of dataset.splits")

    @cached_property
    def _images(self) -> ImageFolder:
        return ImageFolder(self._root() / self.folder)

    def _members(self, split: str) -> list["Entry"]:
        """Images in the order of their first line, each once, however it is spelled."""
        if split not in self.splits:
            raise UserError(
                f"dataset.splits.{split} is not set: name a CSV file, e.g. dataset.splits.{split}={split}.csv"
            )
        found: dict[Path, Entry] = {}
        for file in self.splits[split]:
            for place, entry in self._file(file).items():
                other = found.get(place)
                found[place] = entry if other is None else replace(other, rows=[*other.rows, *entry.rows])
        if not found:
            raise UserError(f"{self._root() / self.splits[split][0]}: has no lines")
        return list(found.values())

    def _file(self, file: str) -> dict[Path, "Entry"]:
        if file not in self._read:
            path = self._root() / file
            text = read_text(path, csv_text.MAX_BYTES, "a CSV file")
            images: dict[Path, Entry] = {}
            for row in csv_text.parse(text, self.form, str(path)):
                entry = self._entry(row, path)
                first = images.setdefault(entry.path or Path(row.image), entry)
                _check_same(first, row)
                first.rows.append(row)
            self._read[file] = images
        return self._read[file]

    def _entry(self, row: Row, file: Path) -> "Entry":
        where = f"{file}: line {row.line} ({row.image})"
        try:
            path = self._images.find(row.image)
        except UserError as error:
            return Entry(row.image, None, where, [], str(error))
        return Entry(relative(path, self._images.folder), path, where, [])

    def _sample(self, identifier: str, entry: "Entry", size: tuple[int, int], checker: BoxChecker) -> Sample:
        assert entry.path
        scale = size if self.units == "normalized" else (1, 1)
        boxes = []
        for row in entry.rows:
            if row.box is not None:
                index = class_index(row.label, self.classes, f"{entry.path.name}: line {row.line}")
                xmin, ymin, xmax, ymax = row.box
                boxes.append((index, xmin * scale[0], ymin * scale[1], xmax * scale[0], ymax * scale[1], 0))
        where = f"{entry.path} (line {entry.rows[0].line} on)"
        return Sample(identifier, entry.path, *size, checker.check(boxes, size, where))


def _look_of(entry: "Entry") -> Sample | None:
    return None if entry.path is None else only_image(entry.path)


def _check_same(entry: "Entry", row: Row) -> None:
    """Folders that are not there are left out of names; what they distinguish must not become one."""
    if not entry.rows or entry.path is None or entry.rows[0].image == row.image:
        return
    short, long = sorted((clean(entry.rows[0].image).lower(), clean(row.image).lower()), key=len)
    if not f"/{long}".endswith(f"/{short}"):
        raise UserError(
            f"{entry.where}: {entry.rows[0].image!r} and {row.image!r} (line {row.line}) are both {entry.path}; "
            "keep images in the folders that the file names"
        )


@dataclass(frozen=True)
class Entry:
    """An image and its lines. name: its path from the folder of images on; path: None where there is no such file,
    for the reason `missing`. where: its first line."""

    name: str
    path: Path | None
    where: str
    rows: list[Row]
    missing: str = ""

    @property
    def size(self) -> tuple[int, int] | None:
        return next((row.size for row in self.rows if row.size), None)

    def annotated_size(self) -> tuple[int, int] | None:
        """(width, height) as the lines have it, None where none does; UserError where they differ."""
        for row in self.rows:
            if row.size not in (None, self.size):
                first, other = ("x".join(map(str, size)) for size in (self.size or (), row.size or ()))
                raise UserError(f"{self.where}: the image is {first} there and {other} in line {row.line}")
        return self.size
