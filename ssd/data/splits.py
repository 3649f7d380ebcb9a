"""Splits for data sets that bring none: a share of the training pictures is held out, chosen by a seed."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ssd.data.dataset import SPLITS
from ssd.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class HoldOut:
    """Shares of the training pictures that become "val" and "test" where there is no such split.

    A picture's place depends on its name and the seed alone, not on the order of the files. Without a test split and
    with test = 0, "test" means "val".
    """

    val: float
    test: float
    seed: int

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> "HoldOut":
        """UserError for missing or unknown keys, or shares that leave nothing to train on."""
        try:
            held = cls(**node)
            fits = min(held.val, held.test) >= 0 and held.val + held.test < 1 and int(held.seed) == held.seed
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
        self, split: str, given: Collection[str], members: Callable[[str], Sequence[T]], key: Callable[[T], str]
    ) -> list[T]:
        """The items of a split, in the order they have.

        members: gives the items of a split in `given`. key: the name of an item. UserError when nothing is left.
        """
        if split == "test" and "test" not in given and not self.test:
            split = "val"
        if split in given and split != "train":
            return list(members(split))
        items = members("train")
        part = self._cut(items, split, given, key)
        if not part:
            raise UserError(
                f"no picture is left for the {split} split: of {len(items)} to train on, dataset.holdout takes "
                f"val={self.val}, test={self.test}; name a split of its own (dataset.splits) or change the shares"
            )
        return part

    def _cut(self, items: Sequence[T], split: str, given: Collection[str], key: Callable[[T], str]) -> list[T]:
        names = [key(item) for item in items]
        shuffled = sorted(range(len(items)), key=lambda index: _digest(self.seed, names[index]))
        start, parts = 0, {}
        for name, share in (("val", self.val), ("test", self.test)):
            count = 0 if name in given else round(share * len(items)) or int(share > 0 and len(items) > 1)
            parts[name] = shuffled[start : start + count]
            start += count
        parts["train"] = shuffled[start:]
        return [items[index] for index in sorted(parts[split])]


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()
