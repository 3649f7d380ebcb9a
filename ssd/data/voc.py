"""Data sets in the layout of PASCAL VOC: Annotations/*.xml, JPEGImages/*, ImageSets/Main/*.txt.

XML counts pixels from 1 and includes both ends of a box; it is read as (xmin - 1, ymin - 1, xmax, ymax), which makes
IoU of continuous boxes equal the devkit's rule with + 1 (VOCevaldet.m). compat "mxnet_ssd" reads the numbers raw.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ssd.data import voc_xml
from ssd.data.checks import BoxChecker, class_index
from ssd.data.dataset import SPLITS, Dataset, Sample
from ssd.data.images import check_header, read_bytes
from ssd.data.problems import refuse, skipping
from ssd.data.splits import HoldOut
from ssd.data.voc_xml import Annotation
from ssd.errors import UserError

SETS = Path("ImageSets/Main")
FOLDERS = (Path("Annotations"), Path("JPEGImages"), SETS)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class VOC(Dataset):
    """One folder, or a devkit that holds several.

    splits: for "train", "val" and "test" a list of sets that are joined. A set is the name of a file in
    ImageSets/Main, with its folder in front when root holds several ("VOC2007/trainval"); "train|trainval" means
    the first of the two that exists.
    classes: None = all names found in the annotations of the splits, sorted.
    A folder without any ImageSets/Main is split by `holdout`.
    out_of_range: what becomes of boxes outside their picture: "error", "clip" or "drop".
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
        self._images: dict[Path, dict[str, str]] = {}
        self._annotations: dict[Path, Annotation] = {}

    @property
    def available(self) -> tuple[str, ...]:  # type: ignore[override]
        if self._has_no_sets():
            return self.holdout.available(["train"])
        return tuple(split for split in SPLITS if split in self.splits and self._has(split))

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        if self.given_classes is not None:
            return self.given_classes
        # No split at all: asking for one raises the error that says what is missing.
        splits = list(self.available) or list(self.splits)[:1]
        names: set[str] = set()
        for folder, identifier in (member for split in splits for member in self._members(split)):
            with skipping("unusable", _xml(folder, identifier)):
                names.update(item.name for item in self._annotation(folder, identifier).objects)
        if not names:
            raise UserError(f"{self._root()}: no annotation of the splits has an <object>, so there are no classes")
        return tuple(sorted(names))

    def split(self, name: str) -> list[Sample]:
        checker = BoxChecker(self.out_of_range)
        samples = []
        for folder, identifier in self._members(name):
            with skipping("unusable", _xml(folder, identifier)):
                samples.append(self._sample(folder, identifier, checker))
        checker.report()
        return samples

    def _root(self) -> Path:
        if self.root is None:
            raise UserError("dataset.root is not set: it must be the folder that holds Annotations and JPEGImages")
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise UserError(f"dataset.root {self.root}: no such folder")
        return root

    def _has(self, split: str) -> bool:
        entries = self.splits[split]
        return bool(entries) and all(any(file.is_file() for file in self._candidates(entry)) for entry in entries)

    def _candidates(self, entry: str) -> list[Path]:
        """The files an entry such as "VOC2007/train|trainval" may mean, the preferred first."""
        folder, _, names = entry.rpartition("/")
        return [self._root() / folder / SETS / f"{name.strip()}.txt" for name in names.split("|")]

    def _members(self, split: str) -> list[tuple[Path, str]]:
        """(folder, id) of every picture of a split, in the order of its files."""
        if self._has_no_sets():
            return self.holdout.pick(split, ["train"], self._annotated, lambda member: member[1])
        entries = self.splits.get(split)
        if not entries:
            raise UserError(
                f"dataset.splits.{split} is not set: name a file of {SETS}, e.g. dataset.splits.{split}=[val]"
            )
        members = []
        for entry in entries:
            candidates = self._candidates(entry)
            for needed in FOLDERS:
                folder = candidates[0].parents[2] / needed
                if not folder.is_dir():
                    raise UserError(f"{folder}: no such folder; a VOC data set has {', '.join(map(str, FOLDERS))}")
            file = next((file for file in candidates if file.is_file()), None)
            if file is None:
                there = ", ".join(sorted(other.stem for other in candidates[0].parent.glob("*.txt"))[:20]) or "nothing"
                missing = " nor ".join(candidate.name for candidate in candidates)
                raise UserError(
                    f"{candidates[0].parent} has no {missing} but {there}: "
                    f"name one of its files, e.g. dataset.splits.{split}=[trainval]"
                )
            members += [(file.parents[2], identifier) for identifier in _read_ids(file)]
        return members

    def _has_no_sets(self) -> bool:
        return (self._root() / "Annotations").is_dir() and not (self._root() / SETS).is_dir()

    def _annotated(self, split: str) -> list[tuple[Path, str]]:
        """Every annotation there is."""
        found = sorted(file.stem for file in (self._root() / "Annotations").glob("*.xml"))
        if not found:
            raise UserError(f"{self._root() / 'Annotations'}: has no .xml files")
        return [(self._root(), identifier) for identifier in found]

    def _annotation(self, folder: Path, identifier: str) -> Annotation:
        file = Path(_xml(folder, identifier))
        if file not in self._annotations:
            try:
                data = file.read_bytes()
            except OSError as error:
                raise UserError(
                    f"{file}: {error.strerror}; every picture of a split needs one (without <object> if it shows none)"
                ) from error
            self._annotations[file] = voc_xml.parse(data, str(file))
        return self._annotations[file]

    def _sample(self, folder: Path, identifier: str, checker: BoxChecker) -> Sample:
        where = _xml(folder, identifier)
        annotation = self._annotation(folder, identifier)
        image = self._image(folder, identifier, annotation)
        size = (annotation.width, annotation.height)
        if min(size) <= 0:
            size = check_header(read_bytes(image), str(image))
        for number, error in annotation.broken:
            refuse(error, "object", where, number)
        rows, numbers = [], []
        for number, item in annotation.numbered():
            xmin, ymin, xmax, ymax = item.box
            # Judged by the numbers in the file: xmax == xmin is a slip of the mouse, not an object one pixel wide.
            shift = self.first_pixel if xmax > xmin and ymax > ymin else 0.0
            with skipping("class", where, number):
                index = class_index(item.name, self.classes, f"{where}: object {number}")
                rows.append((index, xmin - shift, ymin - shift, xmax, ymax, item.difficult))
                numbers.append(number)
        return Sample(identifier, image, *size, checker.check(rows, size, where, numbers))

    def _image(self, folder: Path, identifier: str, annotation: Annotation) -> Path:
        """The picture with the id's name, else the one the XML names (many tools write wrong ones there)."""
        images = folder / "JPEGImages"
        if images not in self._images:
            files = (file for file in images.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
            self._images[images] = {file.stem: file.name for file in files}
        if identifier in self._images[images]:
            return images / self._images[images][identifier]
        named = images / Path(annotation.filename).name
        if annotation.filename and os.path.isfile(named):
            return named
        raise UserError(f"{images / identifier}.jpg: no such image, nor with {', '.join(IMAGE_SUFFIXES[1:])}")


def _xml(folder: Path, identifier: str) -> str:
    return str(folder / "Annotations" / f"{identifier}.xml")


def _as_list(entries: str | Sequence[str] | None) -> list[str]:
    return [entries] if isinstance(entries, str) else [str(entry) for entry in entries or []]


def _class_names(classes: str | Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in _as_list(classes))
    if not names or "" in names or len(set(names)) < len(names):
        raise UserError(
            f"dataset.classes {list(names)} must hold different names, at least one; null finds them in the annotations"
        )
    return names


def _read_ids(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not a readable list of image ids ({error})") from error
    ids = [line.strip() for line in lines if line.strip()]
    if any("\0" in identifier for identifier in ids):
        raise UserError(f"{file}: not a readable list of image ids (it holds binary data)")
    if not ids:
        raise UserError(f"{file}: the split is empty, it must hold one image id per line")
    return [identifier[:-4] if identifier.lower().endswith((".jpg", ".png")) else identifier for identifier in ids]
