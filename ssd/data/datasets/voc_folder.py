"""One folder in the layout of PASCAL VOC: where its annotations, images and lists lie, and which belong together."""

import errno
import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TypeVar

from ssd.data.datasets.listing import Listing, files_below, find_folder, fold, subfolders
from ssd.data.headers import SUFFIXES
from ssd.utils.atomic_files import read_text
from ssd.utils.errors import UserError

# In lower case, the preferred first. Those that hold nothing of the kind are passed by.
ANNOTATION_FOLDERS = ("annotations", "annotation", "annots", "annot", "xmls", "xml", "labels")
IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img", "pictures", "photos")
SET_FOLDERS = ("imagesets", "imageset")
FOLDERS = (Path("Annotations"), Path("JPEGImages"), Path("ImageSets/Main"))
T = TypeVar("T")
MAX_LIST_BYTES = 100_000_000
COLUMN = re.compile(r"(\S.*?)\s+(-1|0|1)")  # of PASCAL's class lists: -1 where the class is not in the image


class VOCFolder:
    """root/Annotations/a.xml, root/JPEGImages/a.jpg, root/ImageSets/Main/train.txt, or the same under usual names.

    The annotations may lie beside the images, and both in folders below their own: the id of Annotations/cam0/a.xml is
    "cam0/a".
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listings: dict[Path, Listing] = {}
        self.annotations = self._place(ANNOTATION_FOLDERS, ".xml") or root / FOLDERS[0]
        self.images = self._place(IMAGE_FOLDERS, SUFFIXES) or self._beside() or root / FOLDERS[1]
        self.sets = self._sets()

    @property
    def is_there(self) -> bool:
        """Whether it holds any annotation."""
        return os.path.isdir(self.annotations) and bool(self.ids)

    def require(self) -> None:
        """UserError when the folder of annotations or images is missing."""
        for place, needed in ((self.annotations, FOLDERS[0]), (self.images, FOLDERS[1])):
            if not os.path.isdir(place):
                raise UserError(
                    f"{place}: no such folder; a VOC dataset has {', '.join(map(str, FOLDERS))} "
                    f"(or {ANNOTATION_FOLDERS[2]}, {IMAGE_FOLDERS[1]}, {IMAGE_FOLDERS[4]} for {needed})"
                    f"{self._devkits()}"
                )

    @cached_property
    def ids(self) -> dict[str, Path]:
        """id -> annotation file, sorted by id."""
        files = (path for path in self.annotated.files if path.suffix.lower() == ".xml")
        return dict(sorted((_id(path, self.annotations), path) for path in files))

    @cached_property
    def annotated(self) -> Listing:
        """All files in the folder of annotations."""
        return self._listing(self.annotations)

    @cached_property
    def pictured(self) -> Listing:
        """All files in the folder of images."""
        return self._listing(self.images)

    def annotation(self, identifier: str) -> Path:
        """The annotation file of an id, in another case where there is none in this one; UserError without one."""
        if identifier in self.ids:
            return self.ids[identifier]
        alike = self._ids_alike.get(fold(identifier), [])
        if len(alike) > 1:
            names = " and ".join(self.ids[name].name for name in alike)
            raise UserError(f"{self.annotations / identifier}.xml: no such file, but {names}; which of them is meant?")
        if not alike:
            raise UserError(
                f"{self.annotations / identifier}.xml: {os.strerror(errno.ENOENT)}; "
                "every image of a split needs one (without <object> if it shows none)"
            )
        return self.ids[alike[0]]

    def knows(self, identifier: str) -> bool:
        return identifier in self.ids or fold(identifier) in self._ids_alike

    def image(self, identifier: str, filename: str) -> Path:
        """The image of an id: the one of its name, else the one that the XML's <filename> names.

        Many tools write wrong ones there, so the id goes first; of several with the id's name <filename> decides.
        UserError when there is none, or when it cannot be decided.
        """
        named = PurePosixPath(filename.replace("\\", "/")).name
        stem = PurePosixPath(identifier).name
        for found in (
            self._images_of.get(fold(identifier), []),
            self._images_called.get(fold(named), []) if named else [],
            self._images_of_stem.get(fold(stem), []),
        ):
            likely = _narrowed(found, identifier, named, self.images)
            if len(likely) > 1:
                names = " or ".join(path.relative_to(self.images).as_posix() for path in likely[:5])
                raise UserError(
                    f"{self.annotation(identifier)}: its image may be {names} in {self.images}; "
                    f"name it in <filename> (which is {filename[:60]!r})"
                )
            if likely:
                return likely[0]
        raise UserError(f"{self.images / identifier}.jpg: no such image, nor with {', '.join(SUFFIXES[1:])}")

    def only_image(self, identifier: str) -> Path | None:
        """The image with the id's name where there is exactly one, whatever the annotation says."""
        found = self._images_of.get(fold(identifier), [])
        return found[0] if len(found) == 1 else None

    def is_called_alike(self, image: Path) -> bool:
        """Whether there is an annotation of the image's name."""
        return self.knows(_id(image, self.images))

    def lists(self) -> list[Path]:
        """The lists in the folder of sets, sorted."""
        if self.sets is None:
            return []
        return sorted(path for path in self.sets.glob("*.txt") if not path.name.startswith("."))

    @cached_property
    def _ids_alike(self) -> dict[str, list[str]]:
        return _grouped(self.ids, fold)

    @cached_property
    def _images_of(self) -> dict[str, list[Path]]:
        return _grouped(self.pictured.images(), lambda path: fold(_id(path, self.images)))

    @cached_property
    def _images_called(self) -> dict[str, list[Path]]:
        return _grouped(self.pictured.images(), lambda path: fold(path.name))

    @cached_property
    def _images_of_stem(self) -> dict[str, list[Path]]:
        return _grouped(self.pictured.images(), lambda path: fold(path.stem))

    def _place(self, names: Sequence[str], suffixes: str | tuple[str, ...]) -> Path | None:
        """The first folder of these names that holds such files, the root itself where they lie directly in it."""
        if not os.path.isdir(self.root):
            return None
        empty = None
        for name in names:
            place = find_folder(self.root, [name])
            if place is not None and self._holds(place, suffixes):
                inner = find_folder(place, names)
                return inner if inner is not None and not _holds_directly(place, suffixes) else place
            empty = empty or place
        return self.root if _holds_directly(self.root, suffixes) else empty

    def _sets(self) -> Path | None:
        place = find_folder(self.root, SET_FOLDERS)
        main = None if place is None else find_folder(place, ["main"])
        return main or (place if place is not None and _holds_directly(place, ".txt") else None)

    def _beside(self) -> Path | None:
        return self.annotations if self._holds(self.annotations, SUFFIXES) else None

    def _holds(self, folder: Path, suffixes: str | tuple[str, ...]) -> bool:
        return os.path.isdir(folder) and any(
            path.name.lower().endswith(suffixes) for path in self._listing(folder).files
        )

    def _listing(self, folder: Path) -> Listing:
        if folder not in self._listings:
            # Folders below a flat one hold what they like: other splits, the output of other tools.
            self._listings[folder] = files_below(folder, deep=folder != self.root)
        return self._listings[folder]

    def _devkits(self) -> str:
        if not os.path.isdir(self.root):
            return ""
        found = [place for place in subfolders(self.root) if find_folder(place, SET_FOLDERS)]
        return f"; {found[0]} has them: dataset.root={found[0]}" if found else ""


def read_ids(file: Path, known: Callable[[str], bool]) -> list[str]:
    """The ids that a list of images holds, in its order.

    Suffixes of images go, and the folders up to that of the images or annotations. Of PASCAL's class lists ("a  1")
    those with 1 and 0 count; of two columns with an image and an annotation the annotation. known: whether there is an
    annotation of an id: ids may hold blanks.
    """
    lines = [line.strip() for line in read_text(file, MAX_LIST_BYTES, "a list of image ids").splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"{file}: the split is empty, it must hold one image id per line")
    ids = [line if known(line) else cleaned(line) for line in lines]
    spaced = [number for number, line in enumerate(lines) if len(line.split()) > 1]
    if not spaced or any(known(ids[number]) for number in spaced):
        return ids
    if all(line.endswith(".xml") and len(line.split()) == 2 for line in lines):
        return [cleaned(line.split()[1]) for line in lines]
    columns = [COLUMN.fullmatch(line) for line in lines]
    if all(columns):
        members = [cleaned(column[1]) for column in columns if column is not None and column[2] != "-1"]
        if not members:
            raise UserError(f"{file}: the split is empty, every image has -1 (the class is not in it)")
        return members
    number = spaced[0]
    if known(cleaned(lines[number].split()[0])):
        raise UserError(
            f"{file}: line {number + 1}, {lines[number][:60]!r}, has columns; a list holds one id per line, "
            "or an id and 1, 0 or -1 in every line (PASCAL's lists of a class)"
        )
    return ids


def cleaned(name: str) -> str:
    """An id as it is meant: ./JPEGImages/cam0/a.JPG is "cam0/a"."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.suffix.lower() in (*SUFFIXES, ".xml"):
        path = path.with_suffix("")
    parts = [part for part in path.parts if part != "."]
    folders = [at for at, part in enumerate(parts[:-1]) if part.lower() in (*IMAGE_FOLDERS, *ANNOTATION_FOLDERS)]
    return "/".join(parts[folders[-1] + 1 if folders else 0 :]) or name


def _narrowed(found: Sequence[Path], identifier: str, named: str, folder: Path) -> Sequence[Path]:
    """Of several images those that are written exactly as the id, and of these the one of the XML's name."""
    if len(found) > 1:
        found = [path for path in found if _id(path, folder) == identifier] or found
    if len(found) > 1:
        found = [path for path in found if path.name == named] or [
            path for path in found if fold(path.name) == fold(named)
        ] or found  # fmt: skip
    return found


def _id(path: Path, folder: Path) -> str:
    return os.path.splitext(str(path)[len(str(folder)) :].lstrip(os.sep))[0].replace(os.sep, "/")


def _grouped(items: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _holds_directly(folder: Path, suffixes: str | tuple[str, ...]) -> bool:
    return any(name.lower().endswith(suffixes) and not name.startswith(".") for name in os.listdir(folder))
