"""Splits for datasets that bring none: a share of the training images is held out, chosen by a seed.

Images that belong together are never on both sides: equal and nearly equal ones, and those that dataset.group_by puts
together (the frames of a video, the images of a patient).
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ssd.data.base import SPLITS, Sample
from ssd.data.inspection import alike
from ssd.utils.errors import UserError
from ssd.utils.patterns import compiled

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class HoldOut:
    """Shares of the training images that become "val" and "test" where there is no such split.

    An image's place depends on its name and the seed alone, not on the order of the files; that of images that
    belong together on the first of their places. Without a test split and with test = 0, "test" means "val".
    group_by: a regex that is searched in names; images with the same first group (or the same match, where it has no
    group) belong together. cache: a folder for what is remembered of the images' looks; None = nothing is.
    """

    val: float
    test: float
    seed: int
    group_by: str | None = None
    cache: str | None = None
    _groups: dict[tuple[str, ...], list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> "HoldOut":
        """UserError for missing or unknown keys, or shares that leave nothing to train on."""
        try:
            held = cls(**node)
            fits = min(held.val, held.test) >= 0 and held.val + held.test < 1 and int(held.seed) == held.seed
            if held.group_by is not None:
                compiled(held.group_by, "dataset.group_by")
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise UserError(
                f"dataset.holdout {dict(node)} must be {{val: share, test: share, seed: number}}, shares below 1 in sum"
            )
        return held

    def available(self, given: Collection[str]) -> tuple[str, ...]:
        """Which splits there are when those in `given` are brought along."""
        shares = {"val": self.val, "test": self.test}
        return tuple(name for name in SPLITS if name in given or ("train" in given and shares.get(name)))

    def pick(
        self,
        split: str,
        given: Collection[str],
        members: Callable[[str], Sequence[T]],
        key: Callable[[T], str],
        image: Callable[[T], Sample | None],
    ) -> list[T]:
        """The items of a split, in the order they have.

        members: gives the items of a split in `given`. key: the name of an item. image: a sample whose file is that of
        an item, None where there is none; only that is asked of it. UserError when nothing is left.
        """
        if split == "test" and "test" not in given and not self.test:
            split = "val"
        if split in given and split != "train":
            return list(members(split))
        items = members("train")
        if all(name in given or not share for name, share in (("val", self.val), ("test", self.test))):
            part = list(items) if split == "train" else []
            if self.group_by is not None:
                log.warning("dataset.group_by=%s has no effect: nothing is held out of train", self.group_by)
        else:
            names = [key(item) for item in items]
            part = self._cut(items, names, self._grouped(items, names, image), split, given)
        if not part:
            raise UserError(
                f"no image is left for the {split} split: of {len(items)} to train on, dataset.holdout takes "
                f"val={self.val}, test={self.test}, and those that look alike or belong to one group stay together; "
                "name a split of its own (dataset.splits) or change the shares"
            )
        return part

    def _grouped(self, items: Sequence[T], names: list[str], image: Callable[[T], Sample | None]) -> list[int]:
        """A number per item; those that belong together have the same."""
        known = tuple(names)
        if known not in self._groups:
            self._groups[known] = self._group(items, names, image)
        return self._groups[known]

    def _group(self, items: Sequence[T], names: list[str], image: Callable[[T], Sample | None]) -> list[int]:
        samples = [image(item) for item in items]
        there = [place for place, sample in enumerate(samples) if sample is not None]
        labels, near = alike.groups(
            [sample for sample in samples if sample is not None], None if self.cache is None else Path(self.cache)
        )
        if not near:
            log.warning("most images look nearly the same: dataset.holdout keeps only equal ones on one side; "
                        "dataset.group_by=REGEX says which file names belong together")  # fmt: skip
        looks: list[object] = [("", place) for place in range(len(items))]
        for place, label in zip(there, labels, strict=True):
            looks[place] = label
        return alike.merged(looks, self._by_name(names))

    def _by_name(self, names: Sequence[str]) -> list[object]:
        if self.group_by is None:
            return list(range(len(names)))
        pattern = compiled(self.group_by, "dataset.group_by")
        found = [pattern.search(name) for name in names]
        if not any(found):
            raise UserError(
                f"dataset.group_by={self.group_by}: is found in none of {len(names)} file names such as {names[0]}"
            )
        texts = [match and (match[1] if match.re.groups else match[0]) for match in found]
        if alone := [name for name, text in zip(names, texts, strict=True) if text is None]:
            log.warning("dataset.group_by=%s is not found in %d of %d file names, such as %s: each is its own group",
                        self.group_by, len(alone), len(names), alone[0])  # fmt: skip
        groups = len({text for text in texts if text is not None})
        log.info("dataset.group_by: %d groups in %d file names", groups, len(names))
        return [place if text is None else ("name", text) for place, text in enumerate(texts)]

    def _cut(
        self, items: Sequence[T], names: Sequence[str], labels: Sequence[int], split: str, given: Collection[str]
    ) -> list[T]:
        digests = [_digest(self.seed, name) for name in names]
        groups: dict[int, list[int]] = {}
        for place in sorted(range(len(items)), key=lambda place: digests[place]):
            groups.setdefault(labels[place], []).append(place)
        waiting = list(groups.values())  # in the order of their first members
        parts: dict[str, list[int]] = {}
        for name, share in (("val", self.val), ("test", self.test)):
            count = 0 if name in given else round(share * len(items)) or int(share > 0 and len(items) > 1)
            parts[name], waiting = _filled(waiting, count)
        parts["train"] = [place for group in waiting for place in group]
        return [items[index] for index in sorted(parts[split])]


def _filled(groups: list[list[int]], count: int) -> tuple[list[int], list[list[int]]]:
    """`count` members, or as many as whole groups allow, taken in the order of the groups; and the groups left.

    Where even the smallest group has more, it is taken, unless it is the last one.
    """
    taken: list[int] = []
    left = []
    for group in groups:
        if len(taken) + len(group) <= count:
            taken += group
        else:
            left.append(group)
    if count and not taken and len(left) > 1:
        smallest = min(left, key=len)
        taken, left = smallest, [group for group in left if group is not smallest]
    return taken, left


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()
