"""Data sets of pictures with YOLO text files, in any of the usual layouts.

root/images/train/a.jpg  root/labels/train/a.txt     root/images/a.jpg  root/labels/a.txt
root/train/images/a.jpg  root/train/labels/a.txt     root/a.jpg         root/a.txt
"""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ssd.data import yolo_text
from ssd.data.checks import BoxChecker, class_index
from ssd.data.dataset import SPLITS, Dataset, Sample
from ssd.data.files import existing_root, picture_sizes, pictures_in, read_text
from ssd.data.problems import skipping
from ssd.data.splits import HoldOut
from ssd.errors import UserError

HOLDS = "pictures and their .txt files, or be a data.yaml"
DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml")
NAMES_FILES = ("classes.txt", "obj.names", "classes.names")
USUAL = {  # folders of a split, the preferred first
    "train": ("images/train", "train/images", "train", "images", "."),
    "val": ("images/val", "images/valid", "val/images", "valid/images", "val", "valid"),
    "test": ("images/test", "test/images", "test"),
}
MAX_LIST_BYTES = 1_000_000_000


class YOLO(Dataset):
    """root: the folder, or a data.yaml (a folder that holds one is read by it).

    names: the classes that the files number from 0: a list, or a file with one per line, or a data.yaml; None = the
    data.yaml's, or a classes.txt beside the pictures. classes: None = names; else the same names in another order.
    splits: for "train", "val" and "test" a folder, a file that lists pictures, or several; None for all three = what
    data.yaml says, else the usual folders. Without a val split one is held out.
    labels: folder of the text files; None = a picture's path with "images" replaced by "labels", else beside it.
    A picture without a text file shows no object. out_of_range: "error", "clip" or "drop".
    """

    def __init__(
        self,
        root: str | None,
        names: str | Sequence[str] | None,
        classes: Sequence[str] | None,
        splits: Mapping[str, Any],
        labels: str | None,
        out_of_range: str,
        holdout: Mapping[str, Any],
    ) -> None:
        self.root = root
        self.given_names = names
        self.given_classes = None if classes is None else tuple(classes)
        self.given_splits = {name: _as_list(node) for name, node in splits.items() if node}
        self.labels = labels
        self.out_of_range = out_of_range
        self.holdout = HoldOut.from_config(holdout)

    @cached_property
    def _description(self) -> tuple[Path, dict[str, Any]]:
        """The folder that paths start from, and what data.yaml says, nothing without one."""
        place = existing_root(self.root, HOLDS)
        candidates = [place] if place.is_file() else [place / name for name in DESCRIPTIONS]
        file = next((file for file in candidates if file.is_file()), None)
        if file is None:
            return place, {}
        node = yolo_text.read_description(file)
        folder = file.parent / str(node.get("path") or "")
        # `path` is often relative to where another program was started.
        return folder if os.path.isdir(folder) else file.parent, node

    @property
    def _folder(self) -> Path:
        return self._description[0]

    @cached_property
    def splits(self) -> dict[str, list[Path]]:
        """Folders and lists of pictures of each split there is."""
        folder, node = self._description
        described = {name: _as_list(node[name]) for name in SPLITS if node.get(name)}
        given = self.given_splits or described
        if given:
            return {
                name: [_inside(folder, entry, name) for entry in entries]
                for name, entries in given.items()
                # Exports describe a test split that is often not part of them.
                if name != "test" or self.given_splits or _places(folder, entries[0])
            }
        found = {}
        for name, usual in USUAL.items():
            place = next((folder / place for place in usual if (folder / place).is_dir()), None)
            if place is not None:
                found[name] = [place]
        return found

    @property
    def available(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.holdout.available(self.splits)

    @cached_property
    def names(self) -> tuple[str, ...]:
        folder, node = self._description
        source = self.given_names
        if source is None:
            if "names" in node:
                return yolo_text.class_names(node["names"], "data.yaml")
            source = next((str(folder / name) for name in NAMES_FILES if (folder / name).is_file()), None)
            if source is None:
                raise UserError(
                    f"{folder}: says nothing of its classes; give dataset.names=[...] or dataset.names=file "
                    "with a name per line"
                )
        if not isinstance(source, str):
            return yolo_text.class_names(source, "dataset.names")
        file = next((file for file in (folder / source, Path(source)) if os.path.isfile(file)), folder / source)
        if file.suffix in (".yaml", ".yml"):
            return yolo_text.class_names(yolo_text.read_description(file).get("names"), str(file))
        lines = read_text(file, yolo_text.MAX_DESCRIPTION, "a list of class names").splitlines()
        return yolo_text.class_names([line for line in lines if line.strip()], str(file))

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.names if self.given_classes is None else self.given_classes

    def split(self, name: str) -> list[Sample]:
        checker = BoxChecker(self.out_of_range)
        places = self.holdout.pick(name, self.splits, self._members, lambda path: path.as_posix())
        pictures = [self._folder / place for place in places]
        samples = []
        for picture, size in zip(pictures, picture_sizes(pictures), strict=True):
            with skipping("unusable", str(picture)):
                samples.append(self._sample(picture, size.result(), checker))
        checker.report()
        return samples

    def _members(self, split: str) -> list[Path]:
        """Pictures of a split, relative to the folder where they lie in it (so that a moved copy splits alike)."""
        if split not in self.splits:
            raise UserError(
                f"{self._folder}: has no {split} pictures in any usual place; dataset.splits.{split}=folder names one"
            )
        found: list[Path] = []
        for place in self.splits[split]:
            found += pictures_in(place) if place.is_dir() else _listed(place, self._folder)
        if not found:
            raise UserError(f"{self.splits[split][0]}: no pictures for the {split} split")
        return [path.relative_to(self._folder) if path.is_relative_to(self._folder) else path for path in found]

    def _sample(self, picture: Path, size: tuple[int, int], checker: BoxChecker) -> Sample:
        file = self._label_file(picture)
        text = read_text(file, yolo_text.MAX_BYTES, "labels") if os.path.exists(file) else ""
        rows = []
        for number, *box in yolo_text.corners(yolo_text.parse(text, str(file)), size):
            if number >= len(self.names):
                raise UserError(f"{file}: class {number:g} has no name, there are {len(self.names)} (dataset.names)")
            rows.append((class_index(self.names[int(number)], self.classes, str(file)), *box))
        return Sample(picture.stem, picture, *size, checker.check(rows, size, str(file)))

    def _label_file(self, picture: Path) -> Path:
        place = picture.relative_to(self._folder) if picture.is_relative_to(self._folder) else picture
        name = f"{picture.stem}.txt"
        parts = list(place.parent.parts)
        if self.labels is not None:
            # The labels folder may repeat the folders of the pictures below their own.
            below = parts[parts.index("images") + 1 :] if "images" in parts else parts
            deep = self._folder / self.labels / Path(*below) / name
            return deep if os.path.exists(deep) else self._folder / self.labels / name
        if "images" in parts:
            last = len(parts) - 1 - parts[::-1].index("images")
            return self._folder / Path(*parts[:last], "labels", *parts[last + 1 :]) / name
        return picture.with_name(name)


def _as_list(node: Any) -> list[str]:
    return [str(item) for item in node] if isinstance(node, (list, tuple)) else [str(node)]


def _places(folder: Path, entry: str) -> list[Path]:
    """Where an entry of a split lies; "../train/images", as some exports write it, may also mean "train/images"."""
    return [place for place in (folder / entry, folder / entry.removeprefix("../")) if os.path.exists(place)]


def _inside(folder: Path, entry: str, split: str) -> Path:
    places = _places(folder, entry)
    if not places:
        raise UserError(f"{folder / entry}: no such folder or file, the {split} split should be there")
    return places[0]


def _listed(file: Path, folder: Path) -> list[Path]:
    """Pictures that a text file lists, one path per line, relative to the folder or to the file."""
    lines = read_text(file, MAX_LIST_BYTES, "a list of pictures").splitlines()
    found = []
    for line in lines:
        name = line.strip()
        if name:
            beside = file.parent / name
            found.append(beside if os.path.exists(beside) else folder / name)
    return found
