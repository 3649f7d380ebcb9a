"""Datasets of images with YOLO text files, in any of the usual layouts.

root/images/train/a.jpg  root/labels/train/a.txt     root/images/a.jpg         root/labels/a.txt
root/train/images/a.jpg  root/train/labels/a.txt     root/a.jpg                root/a.txt
root/train.txt, a list                               root/obj_train_data/a.jpg root/obj_train_data/a.txt
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ssd.data.base import SPLITS, Dataset, Sample, only_image
from ssd.data.coverage import NO_SPLIT, SAME_FILE, SECOND_LABELS, Coverage
from ssd.data.datasets import yolo_text
from ssd.data.datasets.listing import Listing, existing_root, files_below, image_sizes, merged
from ssd.data.datasets.named_images import ids
from ssd.data.datasets.split_names import shown
from ssd.data.datasets.splits import HoldOut
from ssd.data.datasets.yolo_labels import IMAGE_FOLDERS, LABEL_FOLDERS, LabelFinder
from ssd.data.datasets.yolo_layout import UsualPlaces, listed_in
from ssd.data.inspection.checks import BoxChecker, class_index, class_names
from ssd.data.inspection.problems import skip_invalid
from ssd.utils.atomic_files import read_text
from ssd.utils.errors import UserError

HOLDS = "images and their .txt files, or be a data.yaml"
DESCRIBED = (".yaml", ".yml")  # suffixes of a file that root may be
DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml")
NAMES_FILES = ("classes.txt", "obj.names", "classes.names")
VAL_KEYS = ("val", "valid", "validation")  # of a data.yaml


@dataclass
class Members:
    """The images of a split as they lie on disk, each file once.

    ids: image, from the dataset's folder where it lies in it, -> its id, in order. labels: its label file, if it has
    one. errors: why an image's labels cannot be chosen. skipped: reason -> files.
    """

    ids: dict[Path, str]
    labels: dict[Path, Path] = field(default_factory=dict)
    errors: dict[Path, UserError] = field(default_factory=dict)
    skipped: dict[str, list[Path]] = field(default_factory=dict)


NO_FILES = ("/proc/", "/sys/")  # what the system says of itself


class YOLO(Dataset):
    """root: the folder, or a data.yaml (a folder that holds one is read by it).

    names: the classes that the files number from 0: a list, or a file with one per line, or a data.yaml; None = the
    data.yaml's, or a classes.txt beside the images. classes: None = names; else the same names in another order.
    splits: for "train", "val" and "test" a folder, a file that lists images, or several; None for all three = what
    data.yaml says, else the usual folders. Without a val split one is held out.
    labels: folder of the text files; None = an image's path with "images" replaced by "labels", else beside it.
    An image without a text file shows no object. out_of_range: "error", "clip" or "drop".
    A sample's id is its file's name without suffix, with as much of its path as tells it from others of its split.
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
        self._listings: dict[Path, Listing] = {}
        self._members_of: dict[str, Members] = {}
        self._finders: dict[str, LabelFinder] = {}

    @cached_property
    def _description(self) -> tuple[Path, dict[str, Any]]:
        """The folder that paths start from, and what data.yaml says, nothing without one."""
        place = _above_images(existing_root(self.root, HOLDS, DESCRIBED))
        candidates = [place] if place.is_file() else [place / name for name in DESCRIPTIONS]
        file = next((file for file in candidates if file.is_file()), None)
        if file is None:
            return place, {}
        node = yolo_text.read_description(file)
        _refuse_far(file, node)
        folder = file.parent / str(node.get("path") or "")
        # `path` is often relative to where another program was started.
        return folder if os.path.isdir(folder) else file.parent, node

    @property
    def _folder(self) -> Path:
        return self._description[0]

    @cached_property
    def splits(self) -> dict[str, list[Path]]:
        """Folders and lists of images of each split there is."""
        folder, node = self._description
        described = {name: _as_list(node[name]) for name in ("train", "test") if node.get(name)}
        val = next((node[key] for key in VAL_KEYS if node.get(key)), None)
        if val is not None:
            described["val"] = _as_list(val)
        given = self.given_splits or {name: described[name] for name in SPLITS if name in described}
        if given:
            bases = (folder, existing_root(self.root, HOLDS, DESCRIBED))
            return {
                name: [_inside(bases, entry, name) for entry in entries]
                for name, entries in given.items()
                # Exports describe a test split that is often not part of them.
                if name != "test" or self.given_splits or _places(bases, entries[0])
            }
        return {name: [place] for name, place in self._usual.splits.items()}

    @cached_property
    def _usual(self) -> UsualPlaces:
        return UsualPlaces(self._folder, self._below)

    @property
    def available(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.holdout.available(self.splits)

    @cached_property
    def names(self) -> tuple[str, ...]:
        folder, node = self._description
        source = self.given_names
        if source is None:
            if "names" in node:
                return _described(node["names"], "data.yaml")
            source = self._names_file()
            if source is None:
                raise UserError(
                    f"{folder}: says nothing of its classes; give dataset.names=[...] or dataset.names=file "
                    "with a name per line"
                )
        if not isinstance(source, str):
            return class_names(source, "dataset.names")
        file = next((file for file in (folder / source, Path(source)) if os.path.isfile(file)), folder / source)
        if file.suffix in (".yaml", ".yml"):
            return _described(yolo_text.read_description(file).get("names"), str(file))
        # A blank line is a number without a class, as programs that count the lines see it.
        lines = read_text(file, yolo_text.MAX_NAMES, "a list of class names").rstrip().split("\n")
        return class_names(lines, str(file), blanks=True)

    def _names_file(self) -> str | None:
        """The list of names of the dataset: in its folder, else beside the images or labels, where LabelImg writes it.

        UserError where several of the latter differ.
        """
        for name in NAMES_FILES:
            if os.path.isfile(self._folder / name):
                return str(self._folder / name)
        finder = LabelFinder(self._folder, self.labels)
        places = [place for split in self.splits.values() for place in split if place.is_dir()]
        folders = [*places, *(path.parent for place in places for path in finder.searched(place / "any"))]
        inside = [folder for folder in folders if folder.is_relative_to(self._folder)]
        places = list(dict.fromkeys([*inside, *(folder.parent for folder in inside if folder != self._folder)]))
        files = [place / name for place in places for name in NAMES_FILES if os.path.isfile(place / name)]
        texts = {read_text(file, yolo_text.MAX_NAMES, "a list of class names") for file in files}
        if len(texts) > 1:
            raise UserError(
                f"{' and '.join(map(str, files))} hold different names; dataset.names=file says which to read"
            )
        return str(files[0]) if files else None

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(filter(None, self.names)) if self.given_classes is None else self.given_classes

    def split(self, name: str) -> list[Sample]:
        checker = BoxChecker(self.out_of_range)
        images = self._picked(name)
        members = self._members(self._source(name))
        paths = [self._folder / image for image in images]
        samples = []
        for image, path, size in zip(images, paths, image_sizes(paths), strict=True):
            with skip_invalid("unusable", str(path)):
                if image in members.errors:
                    raise members.errors[image]
                samples.append(
                    self._sample(members.ids[image], path, members.labels.get(image), size.result(), checker)
                )
        checker.report()
        return samples

    def coverage(self, split: str) -> Coverage:
        source = self._source(split)
        members, finder = self._members(source), self._finders[source]
        known = {*members.labels, *members.errors}
        unlabeled = [self._folder / image for image in self._picked(split) if image not in known]
        searched = finder.searched(unlabeled[0]) if unlabeled else []
        if source != split:  # cut from the images to train on: their folders are named there
            return Coverage(self._shown(unlabeled), (), self._shown(searched))
        first = source == next(iter(self.splits))  # what concerns the whole dataset is said once
        orphans, second = finder.unused(everywhere=first)
        parts = [members.skipped, finder.skipped, {SECOND_LABELS: second} if second else {}]
        if first and "_usual" in self.__dict__:
            parts += [self._usual.skipped, {NO_SPLIT: self._usual.aside} if self._usual.aside else {}]
        skipped = {reason: self._shown(paths) for reason, paths in merged(parts).items()}
        return Coverage(self._shown(unlabeled), self._shown(orphans), self._shown(searched), skipped)

    def _shown(self, paths: Sequence[Path]) -> tuple[str, ...]:
        root = existing_root(self.root, HOLDS, DESCRIBED)
        return tuple(shown(path, root if root.is_dir() else self._folder) for path in paths)

    def _source(self, split: str) -> str:
        """The split with places of its own that the images of `split` are taken from."""
        if split == "test" and "test" not in self.splits and not self.holdout.test:
            split = "val"
        return split if split in self.splits else "train"

    def _picked(self, split: str) -> list[Path]:
        return self.holdout.pick(split, self.splits, self._places_of, lambda path: path.as_posix(), self._look_of)

    def _look_of(self, image: Path) -> Sample:
        return only_image(self._folder / image)

    def _places_of(self, split: str) -> list[Path]:
        """Images of a split, relative to the folder where they lie in it (so that a moved copy splits alike)."""
        return list(self._members(split).ids)

    def _below(self, folder: Path) -> Listing:
        """All files of a folder; of one within a folder that was listed already, without listing it again."""
        if folder not in self._listings:
            above = next((place for place in folder.parents if place in self._listings), None)
            self._listings[folder] = files_below(folder) if above is None else self._listings[above].below(folder)
        return self._listings[folder]

    def _members(self, split: str) -> Members:
        if split not in self._members_of:
            self._members_of[split] = self._find_members(split)
        return self._members_of[split]

    def _find_members(self, split: str) -> Members:
        if split not in self.splits:
            raise UserError(
                f"{self._folder}: has no {split} images in any usual place; dataset.splits.{split}=folder names one"
            )
        listings = [
            self._below(place) if place.is_dir() else listed_in(place, self._folder) for place in self.splits[split]
        ]
        spellings: dict[str, list[Path]] = {}  # of each file
        for place, listing in zip(self.splits[split], listings, strict=True):
            for path, file in (listing.images() if place.is_dir() else listing.files).items():
                spellings.setdefault(file, []).append(path)
        if not spellings:
            raise UserError(f"{self.splits[split][0]}: no images for the {split} split")
        finder = self._finders[split] = LabelFinder(self._folder, self.labels)
        members = Members({}, skipped=merged(listing.skipped for listing in listings))
        images = [self._one(paths, finder, members) for paths in spellings.values()]
        names = ids([image.as_posix() for image in images])
        members.ids = dict(zip(images, names, strict=True))
        self._refuse_shared(members)
        return members

    def _one(self, paths: Sequence[Path], finder: LabelFinder, members: Members) -> Path:
        """The spelling of a file that counts: one that has labels, and among those the file itself."""
        if len(paths) > 1:
            paths = sorted(dict.fromkeys(paths), key=lambda path: (os.path.islink(path), len(path.parts)))
        labels: dict[Path, Path] = {}
        errors: dict[Path, UserError] = {}
        for path in paths:
            try:
                label = finder.find(path)
            except UserError as error:
                errors[path] = error
                continue
            if label is not None:
                labels[path] = label
        chosen = next(iter([*labels, *errors, *paths]))
        place = self._relative(chosen)
        if chosen in labels:
            members.labels[place] = labels[chosen]
        if chosen in errors:
            members.errors[place] = errors[chosen]
        if len(labels) > 1 and len({read_text(file, yolo_text.MAX_BYTES, "labels") for file in labels.values()}) > 1:
            names, texts = " and ".join(map(str, labels)), " and ".join(map(str, labels.values()))
            members.errors[place] = UserError(
                f"{chosen}: {names} are one file with different labels, {texts}; keep one"
            )
        for path in paths:
            if path != chosen:
                members.skipped.setdefault(SAME_FILE, []).append(path)
        return place

    def _refuse_shared(self, members: Members) -> None:
        """Two images with one label file: whose it is cannot be known."""
        owners: dict[Path, Path] = {}
        for split in self._members_of.values():
            owners |= {label: image for image, label in split.labels.items()}
        for image, label in members.labels.items():
            other = owners.setdefault(label, image)
            path = self._folder / image
            if other != image and os.path.realpath(self._folder / other) != os.path.realpath(path):
                members.errors[image] = UserError(
                    f"{path}: shares its labels {label} with {self._folder / other}; give each image its own "
                    f"(rename one of the two, or name the labels {path.name}.txt)"
                )

    def _relative(self, path: Path) -> Path:
        try:
            return path.relative_to(self._folder)
        except ValueError:
            return path

    def _sample(
        self, identifier: str, path: Path, label: Path | None, size: tuple[int, int], checker: BoxChecker
    ) -> Sample:
        text = "" if label is None else read_text(label, yolo_text.MAX_BYTES, "labels")
        where = str(label or path)
        rows = []
        for number, *box in yolo_text.corners(yolo_text.parse(text, where), size):
            if number >= len(self.names):
                raise UserError(f"{where}: class {number:g} has no name, there are {len(self.names)} (dataset.names)")
            if not self.names[int(number)]:
                raise UserError(f"{where}: class {number:g} has no name: line {number + 1:g} of the names is blank")
            rows.append((class_index(self.names[int(number)], self.classes, where), *box))
        return Sample(identifier, path, *size, checker.check(rows, size, where))


def _described(names: Any, file: str) -> tuple[str, ...]:
    """Of a data.yaml, where a single text is no list of names, and an empty name is a number without a class."""
    if not isinstance(names, (list, dict)):
        raise UserError(f"{file}: names must be a list of class names")
    return class_names(names, file, blanks=True)


def _above_images(place: Path) -> Path:
    """The dataset's folder where its folder of images is named instead; `place` itself otherwise."""
    whole = Path(os.path.abspath(place))
    if whole.name.lower() not in IMAGE_FOLDERS or not place.is_dir():
        return place
    marks = (*LABEL_FOLDERS, *DESCRIPTIONS, *NAMES_FILES)
    inside = any(os.path.exists(place / mark) for mark in marks)
    outside = any(name.lower() in marks for name in os.listdir(whole.parent))
    return whole.parent if outside and not inside else place


def _as_list(node: Any) -> list[str]:
    return [str(item) for item in node] if isinstance(node, (list, tuple)) else [str(node)]


def _refuse_far(file: Path, node: Mapping[str, Any]) -> None:
    """Errors: UserError where a description names a place that holds far more than a dataset: the whole disk, all that
    somebody has, or what only looks like files. Listing it would not end."""
    home = os.path.realpath(Path.home())
    for key in ("path", "train", "test", *VAL_KEYS):
        for entry in _as_list(node[key]) if node.get(key) else ():
            for base in {file.parent, file.parent / str(node.get("path") or "")}:
                place = os.path.realpath(base / entry)
                above_home = f"{home}{os.sep}".startswith(f"{place.rstrip(os.sep)}{os.sep}")
                if (above_home and place != os.path.realpath(file.parent)) or f"{place}/".startswith(NO_FILES):
                    raise UserError(f"{file}: {key} {entry} is no folder of a dataset; name one that holds its images")


def _places(bases: Sequence[Path], entry: str) -> list[Path]:
    """Where an entry of a split lies; "../train/images", as some exports write it, may also mean "train/images"."""
    places = [base / name for base in bases for name in (entry, entry.removeprefix("../"))]
    return [place for place in places if os.path.exists(place)]


def _inside(bases: Sequence[Path], entry: str, split: str) -> Path:
    places = _places(bases, entry)
    if not places:
        raise UserError(f"{bases[0] / entry}: no such folder or file, the {split} split should be there")
    return places[0]
