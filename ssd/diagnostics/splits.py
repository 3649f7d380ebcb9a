"""What only shows when images and splits are compared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssd.data.inspection.alike import GRAY_LEVELS, HASH_BITS, usable
from ssd.data.inspection.looking import ImageFacts
from ssd.data.inspection.problems import ERROR, WARNING
from ssd.diagnostics.findings import Finding

CHUNK = 128  # images compared with all of train at a time
UNITS = (100, 1000)  # what coordinates that are no pixels usually end at
LEAST_BOXES = 20  # to say anything about the unit of all of them


@dataclass(frozen=True)
class Seen:
    """The images of one split: their files and what was found in them."""

    files: list[str]
    images: list[ImageFacts]


def repeated(splits: Mapping[str, Seen]) -> Iterator[Finding]:
    """The same contents twice: within a split, and in train and another one."""
    first: dict[str, dict[bytes, str]] = {}
    for split, seen in splits.items():
        mine = first.setdefault(split, {})
        for file, image in zip(seen.files, seen.images, strict=True):
            if image.digest is None:
                continue
            if image.digest in mine:
                if mine[image.digest] == file:  # listed twice, which is a problem of its own
                    continue
                yield Finding("repeated", WARNING, split, file, None, _same("again", mine[image.digest], file))
                continue
            mine[image.digest] = file
            if split != "train" and (twin := first.get("train", {}).get(image.digest)):
                yield Finding("leak", ERROR, split, file, None, _same("in train too", twin, file))


def _same(where: str, twin: str, file: str) -> str:
    return where if twin == file else f"{where}, as {twin}"


def similar(splits: Mapping[str, Seen]) -> Iterator[Finding]:
    """Images of other splits that are nearly one of train: scaled, compressed anew, a frame later."""
    if "train" not in splits:
        return
    train = splits["train"]
    known, thumbs, signs = usable([image.thumb for image in train.images])
    digests = {image.digest for image in train.images}
    for split, seen in splits.items():
        if split == "train" or not len(known):
            continue
        mine, my_thumbs, my_signs = usable([image.thumb for image in seen.images])
        for start in range(0, len(mine), CHUNK):
            rows = slice(start, start + CHUNK)
            equal_bits = (my_signs[rows] @ signs.T + 64) / 2
            twin = equal_bits.argmax(axis=1)  # one candidate each: images of one camera may all be alike
            distance = np.abs(my_thumbs[rows].astype(np.int16) - thumbs[twin]).mean(axis=1)
            close = (equal_bits.max(axis=1) >= 64 - HASH_BITS) & (distance <= GRAY_LEVELS)
            for row in np.flatnonzero(close):
                place = mine[start + row]
                if seen.images[place].digest not in digests:  # exact copies are listed as such
                    what = f"looks like {train.files[known[twin[row]]]} of train"
                    yield Finding("similar", WARNING, split, seen.files[place], None, what)


def lone_classes(counts: Mapping[str, np.ndarray], classes: Sequence[str]) -> Iterator[Finding]:
    """Classes without a box in train or in val. counts: boxes per class of every split."""
    shown = {split: numbers for split, numbers in counts.items() if numbers.sum()}
    for label, name in enumerate(classes):
        having = [split for split, numbers in shown.items() if numbers[label]]
        lacking = [split for split in ("train", "val") if split in shown and split not in having]
        if not having:
            yield Finding("classes", WARNING, "", "", None, f"{name}: no split has a box of it")
        elif lacking:
            boxes = ", ".join(f"{shown[split][label]} in {split}" for split in having)
            yield Finding("classes", WARNING, "", "", None, f"{name}: {boxes}, none in {' and '.join(lacking)}")


def odd_units(corners: np.ndarray, sizes: np.ndarray) -> Iterator[Finding]:
    """All boxes of the dataset end at a round number far inside the images: percents or thousandths, not pixels.

    corners [N, 4] in pixels, sizes [N, 2] (width, height) of their images.
    """
    if len(corners) < LEAST_BOXES:
        return
    largest = corners[:, 2:].max()
    for unit in UNITS:
        if 0.9 * unit < largest <= unit and np.median(sizes.min(axis=1)) >= 2 * unit:
            what = f"no box of {len(corners)} goes beyond {largest:g} in images of up to {sizes[:, 0].max():.0f}x"
            what += f"{sizes[:, 1].max():.0f}: these look like coordinates 0..{unit}, not pixels"
            yield Finding("units", WARNING, "", "", None, what)
