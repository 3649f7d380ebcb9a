"""Several datasets as one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssd.data.base import SPLITS, Dataset, Sample, every_number
from ssd.data.coverage import Coverage
from ssd.data.datasets.build import make_dataset
from ssd.data.datasets.wrappers import remap_classes
from ssd.data.inspection.checks import class_index, find_class
from ssd.utils.errors import UserError


class Concat(Dataset):
    """Several datasets one after the other; classes are joined by name, so "car" is one class wherever it occurs.

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
            raise UserError("dataset.parts is empty: name the datasets to join, as conf/dataset/concat.yaml shows")
        self.parts = [make_dataset({"holdout": holdout, **node}) for node in nodes]
        self.available = tuple(name for name in SPLITS if any(name in part.available for part in self.parts))
        found: list[str] = []
        for part in self.parts:
            found += [name for name in part.classes if find_class(name, found) is None]
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
                found = [remap_classes(sample, places) for sample in part.split(name)]
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
