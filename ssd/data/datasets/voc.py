"""Datasets in the layout of PASCAL VOC: Annotations/*.xml, JPEGImages/*, ImageSets/Main/*.txt.

XML counts pixels from 1 and includes both ends of a box; it is read as (xmin - 1, ymin - 1, xmax, ymax), which makes
IoU of continuous boxes equal the devkit's rule with + 1 (VOCevaldet.m). compat "mxnet_ssd" reads the numbers raw.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ssd.data.base import SPLITS, Dataset, Sample, only_image
from ssd.data.coverage import IN_NO_LIST, SAME_FILE, SECOND_IMAGES, UNLISTED, Coverage
from ssd.data.datasets import voc_xml
from ssd.data.datasets.listing import existing_root, merged, subfolders
from ssd.data.datasets.split_names import one_each, refuse_unknown, shown, split_of
from ssd.data.datasets.splits import HoldOut
from ssd.data.datasets.voc_folder import FOLDERS, VOCFolder, read_ids
from ssd.data.datasets.voc_xml import Annotation
from ssd.data.images import check_header, read_bytes
from ssd.data.inspection.checks import BoxChecker, class_index
from ssd.data.inspection.problems import reject, skip_invalid
from ssd.utils.atomic_files import read_limited
from ssd.utils.errors import UserError

SETS = FOLDERS[2]
MOST_NAMED = 20  # lists in a message


@dataclass(frozen=True)
class Place:
    """Images of a split: those of a list, else all that a folder has annotations of whose id starts with `below`."""

    folder: VOCFolder
    list: Path | None = None
    below: str = ""


@dataclass
class Members:
    """The images of a split, each once: (folder, id), in the order of the lists. skipped: reason -> files."""

    ids: list[tuple[VOCFolder, str]] = field(default_factory=list)
    skipped: dict[str, list[Path]] = field(default_factory=dict)


class VOC(Dataset):
    """One folder, or a devkit that holds several.

    splits: for "train", "val" and "test" a list of sets that are joined. A set is the name of a file in
    ImageSets/Main, with its folder in front when root holds several ("VOC2007/trainval"); "train|trainval" means
    the first of the two that exists. It may also be a list elsewhere ("lists/mine.txt"), or a folder that is a dataset
    of its own or lies in Annotations.
    classes: None = all names found in the annotations of the splits, sorted.
    Without any list of ImageSets/Main the folders say which split an image is of (Annotations/train, or train/a.xml);
    where none is named after a split, all are to train on. What is not there is cut from train by `holdout`.
    out_of_range: what becomes of boxes outside their image: "error", "clip" or "drop".
    A sample's id is the one that the list has, with the folder in front where two folders have the same.
    """

    def __init__(
        self,
        name: str,
        root: str | None,
        classes: Sequence[str] | None,
        splits: Mapping[str, Sequence[str]],
        compat: str | None,
        out_of_range: str,
        holdout: Mapping[str, float],
    ) -> None:
        self.name = name
        self.root = root
        self.given_classes = None if classes is None else _class_names(classes)
        self.splits = {split: _as_list(entries) for split, entries in splits.items()}
        self.first_pixel = 0.0 if compat == "mxnet_ssd" else 1.0
        self.out_of_range = out_of_range
        self.holdout = HoldOut.from_config(holdout)
        self._folders: dict[Path, VOCFolder] = {}
        self._members_of: dict[str, Members] = {}
        self._annotations: dict[Path, Annotation] = {}

    @property
    def available(self) -> tuple[str, ...]:  # type: ignore[override]
        if self._given is not None:
            return self.holdout.available(self._given)
        return tuple(split for split in SPLITS if self.splits.get(split) and all(map(self._place, self.splits[split])))

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        if self.given_classes is not None:
            return self.given_classes
        # No split at all: asking for one raises the error that says what is missing.
        splits = list(self.available) or list(self.splits)[:1]
        names: set[str] = set()
        broken: list[UserError] = []
        for folder, identifier in (member for split in splits for member in self._picked(split)):
            with skip_invalid("unusable", _xml(folder, identifier)):
                annotation = self._annotation(folder, identifier)
                names.update(item.name for item in annotation.objects)
                broken += [error for _, error in annotation.broken]
        if not names:
            if broken:
                raise broken[0]
            raise UserError(f"{self._root()}: no annotation of the splits has an <object>, so there are no classes")
        return tuple(sorted(names))

    def split(self, name: str) -> list[Sample]:
        checker = BoxChecker(self.out_of_range)
        members = self._picked(name)
        counts = Counter(identifier for _, identifier in members)
        owners: dict[str, str] = {}  # image file -> annotation
        samples = []
        for folder, identifier in members:
            where = _xml(folder, identifier)
            with skip_invalid("unusable", where):
                annotation = self._annotation(folder, identifier)
                image = folder.image(identifier, annotation.filename)
                other = owners.setdefault(folder.pictured.files[image], where)
                if other != where:
                    raise UserError(f"{where}: its image {image} is that of {other}; one of the two is another image's")
                unique = identifier if counts[identifier] == 1 else f"{folder.root.name}/{identifier}"
                samples.append(self._sample(unique, where, image, annotation, checker))
        checker.report()
        return samples

    def coverage(self, split: str) -> Coverage:
        source = self._source(split)
        members = self._members(source)
        if source != split:  # cut from the images to train on: their folders are named there
            return Coverage()
        parts = [members.skipped]
        unlabeled: list[Path] = []
        orphans: list[Path] = []
        for folder in self._first_named_by(source):
            parts += [folder.annotated.skipped, folder.pictured.skipped]
            unused = self._unannotated(folder)
            alike = [path for path in unused if folder.is_called_alike(path)]
            lone = [path for path in unused if not folder.is_called_alike(path)]
            parts += [{SECOND_IMAGES: alike}] if alike else []
            if self._given is None:
                unlisted = self._unlisted(folder)
                images = [self._image_of(folder, identifier) for identifier in unlisted]
                spare = [image for image in images if image is not None]
                orphans += [path for path, image in zip(unlisted.values(), images, strict=True) if image is None]
                parts += [{IN_NO_LIST: spare} if spare else {}, {UNLISTED: lone} if lone else {}]
            else:
                unlabeled += lone
        searched = [self._label_of(path) for path in unlabeled[:1]]
        skipped = {reason: self._shown(paths) for reason, paths in merged(parts).items()}
        return Coverage(self._shown(unlabeled), self._shown(orphans), self._shown(searched), skipped)

    def _shown(self, paths: Sequence[Path]) -> tuple[str, ...]:
        return tuple(shown(path, self._root()) for path in sorted(paths))

    def _first_named_by(self, split: str) -> list[VOCFolder]:
        """Folders that no earlier split has images of: what is said of a folder is said once."""
        earlier: list[VOCFolder] = []
        for other in self._given or self.available:
            if other == split:
                break
            earlier += [folder for folder, _ in self._members(other).ids]
        known = {id(folder) for folder in earlier}
        return [folder for folder in self._folders_of(split) if id(folder) not in known]

    def _folders_of(self, split: str) -> list[VOCFolder]:
        return list({id(folder): folder for folder, _ in self._members(split).ids}.values())

    def _unlisted(self, folder: VOCFolder) -> dict[str, Path]:
        """id -> annotation, of those that no list names, be it of a split or not."""
        named = {folder.annotation(name) for split in self.available for where, name in self._members(split).ids
                 if where is folder and folder.knows(name)}  # fmt: skip
        left = {identifier: path for identifier, path in folder.ids.items() if path not in named}
        for file in folder.lists() if left else ():
            try:
                ids = read_ids(file, folder.knows)
            except UserError:
                continue  # of another purpose
            for identifier in ids:
                left.pop(identifier, None)
        return left

    def _unannotated(self, folder: VOCFolder) -> list[Path]:
        """Images that no annotation is of."""
        used = {self._image_of(folder, identifier) for identifier in folder.ids}
        return [path for path in folder.pictured.images() if path not in used]

    def _image_of(self, folder: VOCFolder, identifier: str) -> Path | None:
        """The image of an annotation, None where there is none, or where it cannot be decided."""
        try:
            filename = "" if folder.only_image(identifier) else self._annotation(folder, identifier).filename
            return folder.image(identifier, filename)
        except UserError:  # split() says so, of an image that it has
            return None

    def _label_of(self, image: Path) -> Path:
        """Where the annotation of an image should be."""
        folder = next(item for item in self._folders.values() if image in item.pictured.files)
        return (folder.annotations / image.relative_to(folder.images)).with_suffix(".xml")

    def _root(self) -> Path:
        return existing_root(self.root, "Annotations and JPEGImages")

    def _opened(self, path: Path) -> VOCFolder:
        if path not in self._folders:
            self._folders[path] = VOCFolder(path)
        return self._folders[path]

    @cached_property
    def _given(self) -> dict[str, list[Place]] | None:
        """The folders of each split where folders say which images it has; None where lists do (or should)."""
        found = {split: [self._place(entry) for entry in entries] for split, entries in self.splits.items() if entries}
        named = {split: [place for place in places if place] for split, places in found.items() if all(places)}
        if self._opened(self._root()).sets or any(place.list for places in named.values() for place in places):
            return None
        for split, entries in self.splits.items() if named else ():
            if split not in named and not any("|" in entry for entry in entries):
                raise UserError(
                    f"{self._root()}: dataset.splits.{split} is {entries}, and there is no such list or folder"
                )
        return named or self._usual() or None

    def _place(self, entry: str) -> Place | None:
        """Where the images of an entry such as "VOC2007/train|trainval" are named, the first that exists.

        Only an entry without "|" may be a folder of annotations: the defaults mean lists.
        """
        above, _, names = entry.rpartition("/")
        root = self._root()
        for name in (name.strip() for name in names.split("|")):
            folder = self._opened(root / above)
            if folder.sets and os.path.isfile(folder.sets / f"{name}.txt"):
                return Place(folder, folder.sets / f"{name}.txt")
            whole = self._opened(root)
            for file in (root / above / name, root / above / f"{name}.txt"):
                if file.suffix == ".txt" and os.path.isfile(file) and whole.is_there:
                    return Place(whole, file)
            path = root / above / name
            if "|" in names or not name or not os.path.isdir(path):
                continue
            for inside in (path, whole.annotations / above / name):
                if inside.is_relative_to(whole.annotations) and inside != root and os.path.isdir(inside):
                    return Place(whole, below=f"{inside.relative_to(whole.annotations).as_posix()}/")
            if self._opened(path).is_there:
                return Place(self._opened(path))
        return None

    def _usual(self) -> dict[str, list[Place]]:
        """The splits by the names of folders, where there are no lists; all are to train on where none is named so."""
        root = self._root()
        whole = self._opened(root)
        if not whole.is_there:
            folders = [folder for folder in subfolders(root) if self._opened(folder).is_there]
            if any(self._opened(folder).sets for folder in folders):
                return {}  # a devkit
            found = one_each(folders, root)
            refuse_unknown([folder for folder in folders if folder not in found.values()], root, found)
            return {split: [Place(self._opened(folder))] for split, folder in found.items()}
        tops = {identifier.partition("/")[0] for identifier in whole.ids if "/" in identifier}
        if not tops:
            return {"train": [Place(whole)]}
        found = one_each([whole.annotations / top for top in sorted(tops)], root)
        refuse_unknown([whole.annotations / top for top in sorted(tops) if not split_of(top)], root, found)
        beside = [path for identifier, path in whole.ids.items() if "/" not in identifier]
        if beside:
            raise UserError(
                f"{beside[0]}: lies beside {', '.join(shown(path, root) for path in found.values())}, which are named "
                f"after splits; move what is to train on into {shown(whole.annotations / 'train', root)}"
            )
        return {split: [Place(whole, below=f"{path.name}/")] for split, path in found.items()}

    def _source(self, split: str) -> str:
        """The split with places of its own that the images of `split` are taken from."""
        if self._given is None:
            return split
        if split == "test" and "test" not in self._given and not self.holdout.test:
            split = "val"
        return split if split in self._given else "train"

    def _picked(self, split: str) -> list[tuple[VOCFolder, str]]:
        """(folder, id) of every image of a split, in the order of its files."""
        if self._given is None:
            return self._members(split).ids
        return self.holdout.pick(split, self._given, lambda name: self._members(name).ids, _name_of, self._look_of)

    def _look_of(self, member: tuple[VOCFolder, str]) -> Sample | None:
        folder, identifier = member
        try:
            return only_image(folder.image(identifier, self._annotation(folder, identifier).filename))
        except UserError:  # split() says so, of this image alone
            return None

    def _members(self, split: str) -> Members:
        if split not in self._members_of:
            self._members_of[split] = self._find_members(split)
        return self._members_of[split]

    def _find_members(self, split: str) -> Members:
        members = Members()
        seen: set[Path] = set()
        for place in self._places(split):
            folder = place.folder
            folder.require()
            if place.list is not None:
                ids = read_ids(place.list, folder.knows)
            else:
                ids = [identifier for identifier in folder.ids if identifier.startswith(place.below)]
            if not ids:
                raise UserError(f"{folder.annotations / place.below}: has no .xml files")
            for identifier in ids:
                try:
                    file = folder.annotation(identifier)
                except UserError:  # split() says so, of this image alone
                    file = Path(_xml(folder, identifier))
                if file in seen:
                    members.skipped.setdefault(SAME_FILE, []).append(file)
                else:
                    seen.add(file)
                    members.ids.append((folder, identifier))
        return members

    def _places(self, split: str) -> list[Place]:
        """Of each entry of a split; UserError that says what is there instead."""
        if self._given is not None:
            if split not in self._given:
                raise UserError(f"{self._root()}: no folder of annotations is named after the {split} split")
            return self._given[split]
        entries = self.splits.get(split)
        if not entries:
            raise UserError(
                f"dataset.splits.{split} is not set: name a file of {SETS}, e.g. dataset.splits.{split}=[val]"
            )
        return [self._place(entry) or self._missing(entry, split) for entry in entries]

    def _missing(self, entry: str, split: str) -> Place:
        above, _, names = entry.rpartition("/")
        folder = self._opened(self._root() / above)
        folder.require()
        sets = folder.sets
        if sets is None:
            raise UserError(f"{folder.root / SETS}: no such folder; a VOC dataset has {', '.join(map(str, FOLDERS))}")
        there = ", ".join([other.stem for other in folder.lists()][:MOST_NAMED]) or "nothing"
        missing = " nor ".join(f"{name.strip()}.txt" for name in names.split("|"))
        raise UserError(
            f"{sets} has no {missing} but {there}: name one of its files, e.g. dataset.splits.{split}=[trainval]"
        )

    def _annotation(self, folder: VOCFolder, identifier: str) -> Annotation:
        file = folder.annotation(identifier)
        if file not in self._annotations:
            try:
                data = read_limited(file, voc_xml.MAX_BYTES, "an annotation")
            except OSError as error:
                raise UserError(f"{file}: cannot read the annotation: {error.strerror}") from error
            self._annotations[file] = voc_xml.parse(data, str(file))
        return self._annotations[file]

    def _sample(self, identifier: str, where: str, image: Path, annotation: Annotation, checker: BoxChecker) -> Sample:
        size = (annotation.width, annotation.height)
        if min(size) <= 0:
            size = check_header(read_bytes(image), str(image))
        for number, error in annotation.broken:
            reject(error, "object", where, number)
        rows, numbers = [], []
        for number, item in annotation.numbered():
            xmin, ymin, xmax, ymax = item.box
            # Judged by the numbers in the file: xmax == xmin is a slip of the mouse, not an object one pixel wide.
            shift = self.first_pixel if xmax > xmin and ymax > ymin else 0.0
            with skip_invalid("class", where, number):
                index = class_index(item.name, self.classes, f"{where}: object {number}")
                rows.append((index, xmin - shift, ymin - shift, xmax, ymax, item.difficult))
                numbers.append(number)
        return Sample(identifier, image, *size, checker.check(rows, size, where, numbers))


def _name_of(member: tuple[VOCFolder, str]) -> str:
    return member[1]


def _xml(folder: VOCFolder, identifier: str) -> str:
    return f"{folder.annotations / identifier}.xml"


def _as_list(entries: str | Sequence[str] | None) -> list[str]:
    return [entries] if isinstance(entries, str) else [str(entry) for entry in entries or []]


def _class_names(classes: str | Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in _as_list(classes))
    if not names or "" in names or len(set(names)) < len(names):
        raise UserError(
            f"dataset.classes {list(names)} must hold different names, at least one; null finds them in the annotations"
        )
    return names
