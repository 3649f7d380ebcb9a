"""How many images, labels and objects each split of a dataset has, and what of it was passed over."""

from collections.abc import Sequence
from dataclasses import dataclass

from ssd.data.base import Sample
from ssd.data.coverage import Coverage


@dataclass(frozen=True)
class Census:
    """Of one split. labeled: images with at least one object. repeated: images whose contents occurred before in it."""

    images: int
    labeled: int
    objects: int
    repeated: int
    coverage: Coverage

    @classmethod
    def of(cls, samples: Sequence[Sample], digests: Sequence[object], coverage: Coverage) -> "Census":
        """digests: what tells the contents of the images apart, None where that is not known."""
        known = [digest for digest in digests if digest is not None]
        return cls(
            images=len(samples),
            labeled=sum(len(sample.boxes) > 0 for sample in samples),
            objects=sum(len(sample.boxes) for sample in samples),
            repeated=len(known) - len(set(known)),
            coverage=coverage,
        )

    def line(self) -> str:
        """Everything that is not zero, in one line."""
        coverage = self.coverage
        parts = [f"{self.images} images, {self.labeled} with objects, {self.objects} objects"]
        if coverage.unlabeled:
            parts.append(f"{len(coverage.unlabeled)} images without a label file ({_first(coverage.unlabeled)})")
        if coverage.orphans:
            parts.append(f"{len(coverage.orphans)} labels that belong to no image ({_first(coverage.orphans)})")
        if self.repeated:
            parts.append(f"{self.repeated} images that repeat the contents of another")
        passed = [f"{len(files)} {reason} ({_first(files)})" for reason, files in coverage.skipped.items() if files]
        if passed:
            parts.append(f"passed over: {', '.join(passed)}")
        return "; ".join(parts)

    def numbers(self) -> dict[str, object]:
        """The same for check.json."""
        return {
            "images_without_label_file": len(self.coverage.unlabeled),
            "orphan_labels": len(self.coverage.orphans),
            "repeated_images": self.repeated,
            "passed_over": {reason: len(files) for reason, files in self.coverage.skipped.items() if files},
        }


def shared_line(split: str, other: str, common: int, sizes: tuple[int, int]) -> str:
    """What two splits have in common. sizes: the numbers of different images in them."""
    if common == max(sizes):
        return f"{split} and {other} are the same {common} images"
    return f"{common} of the {sizes[0]} images of {split} are in {other}, too"


def _first(files: Sequence[str]) -> str:
    return files[0] + (", …" if len(files) > 1 else "")
