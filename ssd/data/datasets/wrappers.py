"""What every dataset can do, whatever its format: a part of its classes, fewer images, joining, a download."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Any, TypeVar

import numpy as np

from ssd.data.base import Dataset, Sample
from ssd.data.coverage import OTHER_CLASSES, Coverage
from ssd.data.inspection.checks import find_class
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")


class ClassSubset(Dataset):
    """Only the objects of some classes, which are numbered in the given order.

    keep_empty: whether images that lose all their objects stay, as background. Those without any always stay.
    """

    def __init__(self, whole: Dataset, classes: Sequence[str], keep_empty: bool) -> None:
        self.whole = whole
        self.classes = tuple(classes)
        self.available = whole.available
        self.keep_empty = keep_empty
        self._emptied: dict[str, tuple[str, ...]] = {}  # split -> images left out of it when it was read
        found = [find_class(name, whole.classes) for name in self.classes]
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
        samples = [remap_classes(sample, self._to) for sample in whole]
        if not self.keep_empty:
            emptied = [len(all_.boxes) > 0 and not len(part.boxes) for part, all_ in zip(samples, whole, strict=True)]
            self._emptied[name] = tuple(str(all_.path) for all_ in compress(whole, emptied))
            samples = [part for part, empty in zip(samples, emptied, strict=True) if not empty]
        if not samples:
            raise UserError(f"the {name} split has no image with any of {', '.join(self.classes)}")
        return samples

    def split_category_ids(self, split: str) -> tuple[int | str, ...] | None:
        return self._of_mine(self.whole.split_category_ids(split))

    def coverage(self, split: str) -> Coverage:
        emptied = self._emptied.get(split, ())
        return self.whole.coverage(split) + Coverage(skipped={OTHER_CLASSES: emptied} if emptied else {})

    def _of_mine(self, ids: tuple[T, ...] | None) -> tuple[T, ...] | None:
        return None if ids is None else tuple(ids[place] for place in self._places)


class Subset(Dataset):
    """At most `max_images` images of each split, spread evenly over it."""

    def __init__(self, whole: Dataset, max_images: int) -> None:
        self.whole = whole
        self.max_images = max_images
        self.available = whole.available
        self.category_ids = whole.category_ids

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.whole.classes

    def split(self, name: str) -> list[Sample]:
        samples = self.whole.split(name)
        count = min(self.max_images, len(samples))
        return [samples[index * len(samples) // count] for index in range(count)]

    def split_category_ids(self, split: str) -> tuple[int | str, ...] | None:
        return self.whole.split_category_ids(split)

    def coverage(self, split: str) -> Coverage:
        return self.whole.coverage(split)


def remap_classes(sample: Sample, to: np.ndarray) -> Sample:
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
