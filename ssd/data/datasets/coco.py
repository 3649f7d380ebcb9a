"""Datasets with COCO's instances JSON: one file per split, images in folders."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ssd.data.base import Dataset, Sample, every_number, only_image
from ssd.data.coverage import UNLISTED, Coverage
from ssd.data.datasets import coco_json
from ssd.data.datasets.coco_json import CocoImage, Id, Instances
from ssd.data.datasets.listing import existing_root
from ssd.data.datasets.named_images import ImageFolder, clean, ids, relative
from ssd.data.datasets.splits import HoldOut
from ssd.data.inspection.checks import BoxChecker, class_index, find_class
from ssd.data.inspection.problems import reject, skip_invalid
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

HOLDS = "the annotation files and folders of images that dataset.splits names"


@dataclass(frozen=True)
class Source:
    """A JSON file and the folder its file names are relative to."""

    annotations: Path
    images: Path


class COCO(Dataset):
    """splits: for "train", "val" and "test" {annotations: file, images: folder} below root, a list of such, or null.

    classes: None = all categories, in the order of their ids. Categories are known by name, in COCO's or VOC's
    spelling; category_ids keeps their numbers. Boxes with iscrowd become a sample's crowds.
    out_of_range: what becomes of boxes outside their image: "error", "clip" or "drop".
    """

    def __init__(
        self,
        root: str | None,
        classes: Sequence[str] | None,
        splits: Mapping[str, Any],
        out_of_range: str,
        holdout: Mapping[str, Any],
    ) -> None:
        self.root = root
        self.given_classes = None if classes is None else tuple(classes)
        self.splits = {name: _sources(name, node) for name, node in splits.items() if node}
        self.out_of_range = out_of_range
        self.holdout = HoldOut.from_config(holdout)
        self.available = self.holdout.available(self.splits)
        self._read: dict[Path, Instances] = {}
        self._folders: dict[Path, ImageFolder] = {}

    @cached_property
    def categories(self) -> dict[int, str]:
        """Names by id in the first file of the first split; other files may number the same names otherwise.

        A root category (see Instances) counts where another file has annotations of it.
        """
        sources = next(iter(self.splits.values()), None)
        if sources is None:
            raise UserError("dataset.splits names no annotation file: dataset.splits.train.annotations=instances.json")
        first = self._instances(sources[0])
        if not first.roots:
            return first.categories
        used = {
            others.categories[box.category]
            for others in map(self._instances, itertools.chain(*self.splits.values()))
            for rows in others.boxes.values()
            for box in rows
        }
        roots = {number: name for number, name in first.roots.items() if name in used - set(first.categories.values())}
        for number, name in first.roots.items():
            if number not in roots:
                log.info("%s: category %d, %r, has no annotations and is the supercategory of others: no class",
                         sources[0].annotations, number, name)  # fmt: skip
        return dict(sorted({**first.categories, **roots}.items()))

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        names = tuple(self.categories.values()) if self.given_classes is None else self.given_classes
        if not names:
            raise UserError(f"{next(iter(self.splits.values()))[0].annotations}: has no categories, so no classes")
        return names

    @cached_property
    def category_ids(self) -> tuple[int, ...] | None:  # type: ignore[override]
        """Of each class its id in the first file, an unused one where that does not have it; None if it has none."""
        return self._numbers(self.categories, {number: number for number in self.categories})  # type: ignore[return-value]

    def split_category_ids(self, split: str) -> tuple[Id, ...] | None:
        """As the files of this split have them; None where two of these files differ."""
        if split not in self.splits:
            split = "val" if split == "test" and not self.holdout.test and "val" in self.splits else "train"
        files = [self._instances(source) for source in self.splits.get(split, [])]
        found = {self._numbers({**file.categories, **file.roots}, file.raw) for file in files}
        return found.pop() if len(found) == 1 else None

    def _numbers(self, categories: Mapping[int, str], raw: Mapping[int, Id]) -> tuple[Id, ...] | None:
        names, ids = list(categories.values()), list(categories)
        places = {index: find_class(name, names) for index, name in enumerate(self.classes)}
        known = {index: raw[ids[place]] for index, place in places.items() if place is not None}
        return every_number(known, len(self.classes)) if len(set(known.values())) == len(known) > 0 else None

    def split(self, name: str) -> list[Sample]:
        checker = BoxChecker(self.out_of_range)
        pairs = self._picked(name)
        owners: dict[Path | None, list[tuple[Source, CocoImage]]] = {}
        for pair in pairs:
            owners.setdefault(self._file_or_none(*pair), []).append(pair)
        samples = []
        for (source, entry), identifier in zip(pairs, ids([clean(pair[1].file) for pair in pairs]), strict=True):
            with skip_invalid("unusable", str(source.annotations)):
                file = self._file(source, entry)
                _check_same(owners[file])
                samples.append(self._sample(identifier, source, entry, file, checker))
        checker.report()
        return samples

    def coverage(self, split: str) -> Coverage:
        """Images beside those of the split that no file of any split lists, and annotations of images that none has."""
        sources = self.splits.get(split)
        if not sources:  # cut from the images to train on: what lies beside them is named there
            return Coverage()
        listed = {
            self._file_or_none(source, entry)
            for source in itertools.chain(*self.splits.values())
            for entry in self._instances(source).images
        }
        root = existing_root(self.root, HOLDS)
        places = [self._place(source.images) for source in sources]
        places += {path.parent for path in listed if path and any(path.is_relative_to(place) for place in places)}
        others = [path for path in ImageFolder(root).images(places) if path not in listed]
        stray = [
            f"{source.annotations}: annotations[{place}] of image id {image}"
            for source in sources
            for place, image in self._instances(source).stray.items()
        ]
        skipped = {UNLISTED: tuple(relative(path, root) for path in others)} if others else {}
        return Coverage(orphans=tuple(stray), skipped=skipped)

    def _picked(self, split: str) -> list[tuple[Source, CocoImage]]:
        return self.holdout.pick(split, self.splits, self._members, lambda pair: pair[1].file, self._look_of)

    def _file(self, source: Source, entry: CocoImage) -> Path:
        folder = self._place(source.images)
        if folder not in self._folders:
            self._folders[folder] = ImageFolder(folder)
        try:
            return self._folders[folder].find(entry.file)
        except UserError as error:
            raise UserError(f"{source.annotations}: image {entry.id} ({entry.file}): {error}") from error

    def _look_of(self, pair: tuple[Source, CocoImage]) -> Sample | None:
        file = self._file_or_none(*pair)
        return None if file is None else only_image(file)

    def _file_or_none(self, source: Source, entry: CocoImage) -> Path | None:
        try:
            return self._file(source, entry)
        except UserError:
            return None

    def _members(self, split: str) -> list[tuple[Source, CocoImage]]:
        sources = self.splits.get(split)
        if not sources:
            raise UserError(
                f"dataset.splits.{split} is not set: dataset.splits.{split}.annotations=instances.json and "
                f"dataset.splits.{split}.images=folder"
            )
        pairs = [(source, entry) for source in sources for entry in self._instances(source).images]
        if not pairs:
            raise UserError(f"{self._place(sources[0].annotations)}: has no images")
        return pairs

    def _place(self, relative: Path) -> Path:
        return existing_root(self.root, HOLDS) / relative

    def _instances(self, source: Source) -> Instances:
        file = self._place(source.annotations)
        if file not in self._read:
            self._read[file] = coco_json.read(file)
        return self._read[file]

    def _sample(self, identifier: str, source: Source, entry: CocoImage, file: Path, checker: BoxChecker) -> Sample:
        instances = self._instances(source)
        where = f"{source.annotations}: image {entry.id} ({entry.file})"
        size = (entry.width, entry.height)
        kinds: tuple[list, list] = ([], [])
        numbers: tuple[list[int], list[int]] = ([], [])
        rows = []
        for place, error in instances.broken.get(entry.id, []):
            reject(error, "object", str(self._place(source.annotations)), place + 1)
        for number, box in enumerate(instances.boxes.get(entry.id, []), start=1):
            index = class_index(instances.categories[box.category], self.classes, where)
            kinds[box.crowd].append((index, box.x, box.y, box.x + box.width, box.y + box.height, 0))
            numbers[box.crowd].append(number)
            rows.append((index, box.x, box.y, box.width, box.height, box.area, box.crowd))
        boxes, crowds = (
            checker.check(found, size, where, places) for found, places in zip(kinds, numbers, strict=True)
        )
        return Sample(
            identifier, file, *size, boxes, crowds,
            image_id=entry.id, annotated=np.array(rows, np.float64).reshape(-1, 7),
        )  # fmt: skip


def _check_same(owners: Sequence[tuple[Source, CocoImage]]) -> None:
    """One file in several places has part of its objects in each: none of them is what the image shows."""
    (source, entry), (other, again) = owners[0], owners[-1]
    if again is entry:
        return
    if source == other:
        what = f"images {entry.id} ({entry.file}) and {again.id} ({again.file}) are one file"
        raise UserError(f"{source.annotations}: {what}; give all its annotations one image_id")
    what = f"image {again.id} ({again.file}) is image {entry.id} of {source.annotations}, too"
    raise UserError(f"{other.annotations}: {what}; join the annotations in one file")


def _sources(split: str, node: Any) -> list[Source]:
    entries = node if isinstance(node, list) else [node]
    sources = []
    for entry in entries:
        if not isinstance(entry, Mapping) or not {"annotations"} <= entry.keys() <= {"annotations", "images"}:
            raise UserError(f"dataset.splits.{split} must be {{annotations: file, images: folder}} or a list of such")
        sources.append(Source(Path(str(entry["annotations"])), Path(str(entry.get("images") or "."))))
    return sources
