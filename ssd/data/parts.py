"""What every data set can do, whatever its format: a part of its classes, fewer pictures, joining, a download."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import compress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ssd.data.checks import class_index, position
from ssd.data.coverage import OTHER_CLASSES, Coverage
from ssd.data.dataset import SPLITS, Dataset, Sample, every_number, make_dataset
from ssd.data.problems import ON_ERROR, REFUSE
from ssd.errors import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")

OTHERS = ("error", "drop")


@dataclass(frozen=True)
class Common:
    """The keys of `dataset` that every format has; conf/config.yaml says what they mean."""

    others: str = "error"
    on_error: str = REFUSE
    keep_empty: bool = False
    images: int | None = None
    group_by: str | None = None
    download: bool = False
    mirror: str | None = None
    archives: Mapping[str, Any] | None = None

    @classmethod
    def out_of(cls, node: dict[str, Any]) -> "Common":
        """Takes these keys out of `node`; absent ones (in the parts of a concatenation) mean "nothing special"."""
        common = cls(**{field.name: node.pop(field.name) for field in fields(cls) if field.name in node})
        if common.others not in OTHERS:
            raise UserError(f"dataset.others is {common.others!r}, it must be one of {', '.join(OTHERS)}")
        if common.on_error not in ON_ERROR:
            raise UserError(f"dataset.on_error is {common.on_error!r}, it must be one of {', '.join(ON_ERROR)}")
        if common.images is not None and (type(common.images) is not int or common.images < 1):
            raise UserError(f"dataset.images is {common.images!r}, it must be a number of pictures or null")
        return common

    def fetch(self, root: str | None) -> None:
        """Downloads what is missing under `root`, when asked to."""
        if not self.download:
            return
        from ssd.data.download import Archive, fetch_all

        if not self.archives or not root:
            raise UserError("dataset.download: this data set names no archives to download; put its files in place")
        archives = [Archive.from_config(name, entry, self.mirror) for name, entry in self.archives.items() if entry]
        fetch_all(archives, Path(root).expanduser())


def take_part(dataset: Dataset, classes: Sequence[str] | None, common: Common) -> Dataset:
    """`dataset` as the common keys narrow it; itself when they do not."""
    if common.others == "drop" and classes:
        dataset = ClassSubset(dataset, [classes] if isinstance(classes, str) else classes, common.keep_empty)
    return dataset if common.images is None else Fewer(dataset, common.images)


class ClassSubset(Dataset):
    """Only the objects of some classes, which are numbered in the given order.

    keep_empty: whether pictures that lose all their objects stay, as background. Those without any always stay.
    """

    def __init__(self, whole: Dataset, classes: Sequence[str], keep_empty: bool) -> None:
        self.whole = whole
        self.classes = tuple(classes)
        self.available = whole.available
        self.keep_empty = keep_empty
        self._emptied: dict[str, tuple[str, ...]] = {}  # split -> images left out of it when it was read
        found = [position(name, whole.classes) for name in self.classes]
        places = [place for place in found if place is not None]
        if len(set(places)) < len(self.classes):
            raise UserError(
                f"dataset.classes {list(classes)} must hold different ones of the classes there are: "
                f"{', '.join(whole.classes)}"
            )
        self._to = np.full(len(whole.classes), -1)
        self._to[places] = np.arange(len(places))
        self._places = places
        self.category_ids = self._of_mine(whole.category_ids)

    def split(self, name: str) -> list[Sample]:
        whole = self.whole.split(name)
        samples = [relabel(sample, self._to) for sample in whole]
        if not self.keep_empty:
            emptied = [len(all_.boxes) > 0 and not len(part.boxes) for part, all_ in zip(samples, whole, strict=True)]
            self._emptied[name] = tuple(str(all_.path) for all_ in compress(whole, emptied))
            samples = [part for part, empty in zip(samples, emptied, strict=True) if not empty]
        if not samples:
            raise UserError(f"the {name} split has no picture with any of {', '.join(self.classes)}")
        return samples

    def split_category_ids(self, split: str) -> tuple[int | str, ...] | None:
        return self._of_mine(self.whole.split_category_ids(split))

    def coverage(self, split: str) -> Coverage:
        emptied = self._emptied.get(split, ())
        return self.whole.coverage(split) + Coverage(skipped={OTHER_CLASSES: emptied} if emptied else {})

    def _of_mine(self, ids: tuple[T, ...] | None) -> tuple[T, ...] | None:
        return None if ids is None else tuple(ids[place] for place in self._places)


class Fewer(Dataset):
    """At most `images` pictures of each split, spread evenly over it."""

    def __init__(self, whole: Dataset, images: int) -> None:
        self.whole = whole
        self.images = images
        self.available = whole.available
        self.category_ids = whole.category_ids

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.whole.classes

    def split(self, name: str) -> list[Sample]:
        samples = self.whole.split(name)
        count = min(self.images, len(samples))
        return [samples[index * len(samples) // count] for index in range(count)]

    def split_category_ids(self, split: str) -> tuple[int | str, ...] | None:
        return self.whole.split_category_ids(split)

    def coverage(self, split: str) -> Coverage:
        return self.whole.coverage(split)


class Concat(Dataset):
    """Several data sets one after the other; classes are joined by name, so "car" is one class wherever it occurs.

    parts: the `dataset` nodes, as a list or under names of one's own. classes: their order; None = as they appear.
    VOC's and COCO's spellings of a class (motorbike, motorcycle) are the same name; the first one met is kept.
    A split comes from the parts that have it.
    """

    def __init__(
        self,
        parts: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]],
        classes: Sequence[str] | None,
        holdout: Mapping[str, Any],
    ) -> None:
        named = parts if isinstance(parts, Mapping) else {str(n): node for n, node in enumerate(parts or [], start=1)}
        nodes = list(named.values())
        self.names = list(named)
        if not nodes:
            raise UserError("dataset.parts is empty: name the data sets to join, as conf/dataset/concat.yaml shows")
        self.parts = [make_dataset({"holdout": holdout, **node}) for node in nodes]
        self.available = tuple(name for name in SPLITS if any(name in part.available for part in self.parts))
        found: list[str] = []
        for part in self.parts:
            found += [name for name in part.classes if position(name, found) is None]
        self.classes = tuple(classes or found)
        # Where each part's classes go.
        self._to = [
            np.array([class_index(name, self.classes, "dataset.parts") for name in part.classes]) for part in self.parts
        ]
        self.category_ids = self._ids()

    def _ids(self) -> tuple[int, ...] | None:
        """Of each class the number in the first part that has one; None unless every class has a number of its own."""
        ids: dict[int, int] = {}
        for part, places in zip(self.parts, self._to, strict=True):
            for place, number in zip(places.tolist(), part.category_ids or (), strict=False):
                ids.setdefault(place, number)
        known = tuple(ids[place] for place in sorted(ids))
        return known if len(set(known)) == len(self.classes) else None

    def split(self, name: str) -> list[Sample]:
        samples, origins = [], []
        for part, places, origin in zip(self.parts, self._to, self.names, strict=True):
            if name in part.available:
                found = [relabel(sample, places) for sample in part.split(name)]
                samples += found
                origins += [origin] * len(found)
        if not samples:
            raise UserError(f"none of dataset.parts has a {name} split")
        return _apart(samples, origins)

    def split_category_ids(self, split: str) -> tuple[int | str, ...] | None:
        """Only where all parts number the classes, and each class alike: results are in one numbering."""
        here = [(part, places) for part, places in zip(self.parts, self._to, strict=True) if split in part.available]
        ids: dict[int, int | str] = {}
        for part, places in here:
            numbers = part.split_category_ids(split)
            if numbers is None or any(ids.setdefault(place, number) != number
                                      for place, number in zip(places.tolist(), numbers, strict=True)):  # fmt: skip
                return None
        return every_number(ids, len(self.classes)) if len(set(ids.values())) == len(ids) else None

    def coverage(self, split: str) -> Coverage:
        return sum((part.coverage(split) for part in self.parts if split in part.available), Coverage())


def _apart(samples: Sequence[Sample], origins: Sequence[str]) -> list[Sample]:
    """Ids that several parts have get the name of their part in front."""
    counts: dict[str, set[str]] = {}
    for sample, origin in zip(samples, origins, strict=True):
        counts.setdefault(sample.id, set()).add(origin)
    return [
        replace(sample, id=f"{origin}/{sample.id}") if len(counts[sample.id]) > 1 else sample
        for sample, origin in zip(samples, origins, strict=True)
    ]


def relabel(sample: Sample, to: np.ndarray) -> Sample:
    """The sample with class c numbered to[c]; objects whose class goes to -1 are left out."""
    parts: list[Any] = []
    for rows in (sample.boxes, sample.crowds, sample.annotated):
        if rows is None:
            parts.append(None)
            continue
        classes = to[rows[:, 0].astype(int)] if len(rows) else np.zeros(0, int)
        rows = rows[classes >= 0].copy()
        rows[:, 0] = classes[classes >= 0]
        parts.append(rows)
    return replace(sample, boxes=parts[0], crowds=parts[1], annotated=parts[2])
