"""Which text file holds the labels of an image, in the layouts and spellings that tools write."""

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ssd.data.datasets.listing import files_below, find_folder, fold, merged, passed_over
from ssd.data.headers import SUFFIXES
from ssd.utils.atomic_files import open_regular
from ssd.utils.errors import UserError

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")  # in lower case, the preferred first
LABEL_FOLDERS = ("labels", "label")
NOT_LABELS = ("classes", "labels", "names", "predefined_classes", "readme", "license", "requirements")
MOST_LOOKED_INTO = 1000  # text files without an image; further ones are judged by their names
LOOK = 4096  # bytes of each
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class LabelFinder:
    """Finds label files, and remembers which image got which.

    The labels of a.jpg are called a.txt; in a folder without one a.jpg.txt, and the same in another case, count too.
    folder: of the dataset. labels: the folder that dataset.labels names, from there; None = the usual places.
    """

    def __init__(self, folder: Path, labels: str | None) -> None:
        self.folder = folder
        self.labels = labels
        self.skipped: dict[str, list[Path]] = {}  # reason -> files and folders, as unused() came across them
        self._found: dict[Path, Path] = {}
        self._places: dict[str, tuple[str, ...]] = {}  # by the folder of images
        self._trees: dict[str, set[str]] = {}  # folder of labels -> those of images, whose folders it repeats
        self._texts: dict[str, _Names] = {}  # by folder
        self._images: dict[str, _Names] = {}

    def find(self, image: Path) -> Path | None:
        """The label file of an image; None when it has none. UserError when more than one may be meant."""
        folder, name = os.path.split(image)
        for place in self._places_for(folder):
            text = self._in(place, folder, name)
            if text is not None:
                self._found[image] = Path(place, text)
                return self._found[image]
        return None

    def searched(self, image: Path) -> list[Path]:
        """Where find() looks, the preferred first."""
        return [Path(place, f"{image.stem}.txt") for place in self._places_for(str(image.parent))]

    def unused(self, everywhere: bool) -> tuple[list[Path], list[Path]]:
        """Label files that belong to no image, and those of images that have another one.

        An image counts also when no split has it. everywhere: not only beside the labels of the images that were asked
        for, but in all folders of labels of the dataset.
        """
        used = set(self._found.values())
        orphans: set[Path] = set()
        second: set[Path] = set()
        for path, folders in self._texts_looked_at(everywhere):
            if path in used or not _is_label(path, len(orphans) < MOST_LOOKED_INTO):
                continue
            owners = self._owners(path, folders)
            if not owners:
                orphans.add(path)
            elif any(image in self._found for image in owners):
                second.add(path)
        return sorted(orphans), sorted(second)

    def _texts_looked_at(self, everywhere: bool) -> Iterator[tuple[Path, list[str]]]:
        """Text files, each with the folders of images that it may be about one of."""
        sharing: dict[str, list[str]] = {}
        for images, places in self._places.items():
            for place in places:
                sharing.setdefault(place, []).append(images)
        for place, folders in sharing.items():
            yield from ((Path(place, name), folders) for name in self._of(place, self._texts).exact)
        for labels, trees in self._trees.items() if everywhere else ():
            if labels in self._places or not os.path.isdir(labels):
                continue
            listing = files_below(Path(labels))
            self.skipped = merged([self.skipped, listing.skipped])
            for path in listing.files:
                folder = str(path.parent)
                if folder not in sharing:
                    below = os.path.relpath(folder, labels)
                    yield path, [os.path.normpath(os.path.join(place, below)) for place in trees]

    def _places_for(self, images: str) -> tuple[str, ...]:
        """Folders that may hold the labels of the images of a folder, the preferred first; not all need be there."""
        if images not in self._places:
            folder = Path(images)
            places = self._chosen(folder) if self.labels is not None else self._usual(folder)
            self._places[images] = tuple(dict.fromkeys(map(str, places)))
        return self._places[images]

    def _in(self, place: str, folder: str, name: str) -> str | None:
        texts, images = self._of(place, self._texts), self._of(folder, self._images)
        if not texts.exact:
            return None
        stem = os.path.splitext(name)[0]
        own, whole = f"{stem}.txt", f"{name}.txt"
        if whole in texts.exact and (own not in texts.exact or images.stems[stem] > 1):
            return whole
        if own in texts.exact:
            return own
        likely = [text for text in texts.alike(own) + texts.alike(whole) if text[: -len(".txt")] in (stem, name)]
        if not likely:  # those of another case, unless they belong to an image that is written so
            likely = [
                text
                for text in texts.alike(own) + texts.alike(whole)
                if text[: -len(".txt")] not in images.stems and text[: -len(".txt")] not in images.exact
            ]
        if len(likely) > 1:
            image = os.path.join(folder, name)
            raise UserError(f"{image}: its labels may be {' or '.join(likely)} in {place}; keep one of them as {own}")
        return likely[0] if likely else None

    def _owners(self, text: Path, folders: Iterable[str]) -> list[Path]:
        """Images of some folders that a text file may be about."""
        found = []
        for folder in folders:
            there = self._of(folder, self._images)
            found += [Path(folder, name) for name in {*there.of_stem(text.stem), *there.alike(text.stem)}]
        return found

    def _of(self, folder: str, index: dict[str, "_Names"]) -> "_Names":
        if folder not in index:
            suffixes = SUFFIXES if index is self._images else (".txt",)
            index[folder] = _Names(name for name in _names_in(folder) if name.lower().endswith(suffixes))
        return index[folder]

    def _chosen(self, images: Path) -> list[Path]:
        """The labels folder may repeat the folders of the images below their own."""
        place = self.folder / str(self.labels)
        inside = images.is_relative_to(self.folder)
        parts = (images.relative_to(self.folder) if inside else images).parts
        first = next((at for at, part in enumerate(parts) if part.lower() in IMAGE_FOLDERS), None)
        if first is None and not inside:
            return [place]
        below = parts[0 if first is None else first + 1 :]
        self._trees.setdefault(str(place), set()).add(str(Path(images, *[os.pardir] * len(below))))
        return [place.joinpath(*below), place]

    def _usual(self, images: Path) -> list[Path]:
        inside = images.is_relative_to(self.folder)
        beside = self._replaced(self.folder, images.relative_to(self.folder).parts) if inside else []
        if beside:
            return [*beside, images]
        whole = Path(os.path.abspath(images))
        far = self._replaced(Path(whole.anchor), whole.parts[1:])
        near = [self._labels_of(self.folder, images.relative_to(self.folder).parts, self.folder)] if inside else []
        return [images, *near, images / LABEL_FOLDERS[0], *far]

    def _replaced(self, start: Path, parts: tuple[str, ...]) -> list[Path]:
        """start/parts with a folder of images in it replaced by that of labels, the last one first."""
        return [
            self._labels_of(start.joinpath(*parts[: at + 1]), parts[at + 1 :], start.joinpath(*parts[:at]))
            for at in reversed(range(len(parts)))
            if parts[at].lower() in IMAGE_FOLDERS
        ]

    def _labels_of(self, images: Path, below: Iterable[str], base: Path) -> Path:
        """The folder in base/labels for the labels of images/below, whatever its case is."""
        place = find_folder(base, LABEL_FOLDERS) or base / LABEL_FOLDERS[0]
        beside = find_folder(base, IMAGE_FOLDERS)
        self._trees.setdefault(str(place), set()).update(map(str, [images, beside] if beside else [images]))
        for part in below:
            deeper = place / part
            place = deeper if os.path.isdir(deeper) else find_folder(place, [part.lower()]) or deeper
        return place


class _Names:
    """Names of files of one folder: as they are, and without regard to case (and to how accents are composed)."""

    def __init__(self, names: Iterable[str]) -> None:
        self.exact = set(names)
        self.stems: dict[str, int] = {}
        self._alike: dict[str, list[str]] = {}
        self._of_stem: dict[str, list[str]] = {}
        for name in sorted(self.exact):
            stem = os.path.splitext(name)[0]
            self.stems[stem] = self.stems.get(stem, 0) + 1
            self._alike.setdefault(fold(name), []).append(name)
            self._of_stem.setdefault(fold(stem), []).append(name)

    def alike(self, name: str) -> list[str]:
        return self._alike.get(fold(name), [])

    def of_stem(self, stem: str) -> list[str]:
        return self._of_stem.get(fold(stem), [])


def _names_in(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not passed_over(name)]
    except OSError as error:
        if error.errno in NOT_THERE:
            return []
        raise UserError(f"{folder}: cannot list the folder: {error.strerror}") from error


def _is_label(path: Path, look: bool) -> bool:
    """Whether a text file is one of labels: by its name, and by its first lines where they are to be looked at."""
    if path.suffix.lower() != ".txt" or path.stem.lower() in NOT_LABELS:
        return False
    if not look:
        return True
    try:
        with open_regular(path) as file:
            lines = (file.read(LOOK) or b"").decode("latin-1").splitlines()
    except (OSError, UserError):
        return False
    fields = next((line.split() for line in lines if line.strip()), ["0"] * 5)
    return len(fields) >= 5 and all(_is_number(field) for field in fields[:5])


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
