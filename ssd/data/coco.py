"""Data sets with COCO's instances JSON: one file per split, pictures in folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ssd.data import coco_json
from ssd.data.checks import BoxChecker, class_index, position
from ssd.data.coco_json import Instances, Picture
from ssd.data.dataset import Dataset, Sample
from ssd.data.files import existing_root
from ssd.data.problems import skipping
from ssd.data.splits import HoldOut
from ssd.errors import UserError

HOLDS = "the annotation files and folders of pictures that dataset.splits names"


@dataclass(frozen=True)
class Source:
    """A JSON file and the folder its file names are relative to."""

    annotations: Path
    images: Path


class COCO(Dataset):
    """splits: for "train", "val" and "test" {annotations: file, images: folder} below root, a list of such, or null.

    classes: None = all categories, in the order of their ids. Categories are known by name, in COCO's or VOC's
    spelling; category_ids keeps their numbers. Boxes with iscrowd become a sample's crowds.
    out_of_range: what becomes of boxes outside their picture: "error", "clip" or "drop".
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

    @cached_property
    def categories(self) -> dict[int, str]:
        """Names by id in the first file of the first split; other files may number the same names otherwise."""
        sources = next(iter(self.splits.values()), None)
        if sources is None:
            raise UserError("dataset.splits names no annotation file: dataset.splits.train.annotations=instances.json")
        return self._instances(sources[0]).categories

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        names = tuple(self.categories.values()) if self.given_classes is None else self.given_classes
        if not names:
            raise UserError(f"{next(iter(self.splits.values()))[0].annotations}: has no categories, so no classes")
        return names

    @cached_property
    def category_ids(self) -> tuple[int, ...] | None:  # type: ignore[override]
        names, ids = list(self.categories.values()), list(self.categories)
        places = [position(name, names) for name in self.classes]
        return tuple(ids[place] for place in places if place is not None) if None not in places else None

    def split(self, name: str) -> list[Sample]:
        checker = BoxChecker(self.out_of_range)
        pairs = self.holdout.pick(name, self.splits, self._members, lambda pair: pair[1].file)
        samples = []
        for source, picture in pairs:
            with skipping("unusable", str(source.annotations)):
                samples.append(self._sample(source, picture, checker))
        checker.report()
        return samples

    def _members(self, split: str) -> list[tuple[Source, Picture]]:
        sources = self.splits.get(split)
        if not sources:
            raise UserError(
                f"dataset.splits.{split} is not set: dataset.splits.{split}.annotations=instances.json and "
                f"dataset.splits.{split}.images=folder"
            )
        pairs = [(source, picture) for source in sources for picture in self._instances(source).pictures]
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

    def _sample(self, source: Source, picture: Picture, checker: BoxChecker) -> Sample:
        instances = self._instances(source)
        where = f"{source.annotations}: image {picture.id} ({picture.file})"
        size = (picture.width, picture.height)
        kinds: tuple[list, list] = ([], [])
        for category, x, y, width, height, crowd in instances.boxes.get(picture.id, []):
            index = class_index(instances.categories[category], self.classes, where)
            kinds[crowd].append((index, x, y, x + width, y + height, 0))
        boxes, crowds = (checker.check(rows, size, where) for rows in kinds)
        file = self._place(source.images) / picture.file
        return Sample(Path(picture.file).stem, file, *size, boxes, crowds)


def _sources(split: str, node: Any) -> list[Source]:
    entries = node if isinstance(node, list) else [node]
    sources = []
    for entry in entries:
        if not isinstance(entry, Mapping) or not {"annotations"} <= entry.keys() <= {"annotations", "images"}:
            raise UserError(f"dataset.splits.{split} must be {{annotations: file, images: folder}} or a list of such")
        sources.append(Source(Path(str(entry["annotations"])), Path(str(entry.get("images") or "."))))
    return sources
