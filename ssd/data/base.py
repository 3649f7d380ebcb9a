"""What every dataset is to the rest of the package: class names, and lists of samples under the names of splits.

A format of one's own is one class in a module that Python finds (the working directory is searched too):

    class Mine(Dataset):
        classes = ("cat", "dog")
        def __init__(self, folder: str) -> None: ...
        def split(self, name): return [Sample(...), ...]

chosen by `dataset=custom dataset._target_=my_module.Mine +dataset.folder=...`. The keys `name`, `classes` and `holdout`
are handed over when __init__ takes them; what else is common to all datasets (conf/config.yaml: unknown_classes,
keep_empty, max_images, download) works without its help. Reading each image inside `with skipping(...)`
(ssd.data.inspection.problems) lets job=check list all errors of such a dataset instead of the first.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssd.data.coverage import Coverage
from ssd.data.images import read_bytes
from ssd.utils.errors import UserError


class Size(NamedTuple):
    width: int
    height: int


@dataclass(frozen=True)
class EncodedImage:
    """An encoded image with its boxes: float64 [N, 6] (class, xmin, ymin, xmax, ymax, difficult), corners 0..1.

    what: names it in messages.
    """

    data: bytes
    size: Size
    boxes: np.ndarray
    what: str


BOX_COLUMNS = 6  # class, xmin, ymin, xmax, ymax, difficult
SPLITS = ("train", "val", "test")


def empty_boxes() -> np.ndarray:
    """The ground truth of an image without objects: float32 [0, 6]."""
    return np.zeros((0, BOX_COLUMNS), np.float32)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its ground truth.

    boxes: float32 [N, 6] rows (class, xmin, ymin, xmax, ymax, difficult); class counts from 0 into the dataset's
    `classes`; corners are continuous pixel coordinates of the image, 0..width and 0..height. N may be 0.
    crowds: rows like those of boxes around groups of objects: never trained on; detections in them count neither way.
    image_id: the image's number or text in the dataset's own files, where those number them (COCO), for results that
    are read beside these files. None: it has none.
    annotated: float64 [K, 7] rows (class, x, y, width, height, area, crowd) of all objects and crowds exactly as a COCO
    file has them, which COCO's metric is measured with; None: boxes and crowds stand for them.
    path: the image's file. A format that keeps its images elsewhere than in files of their own overrides read(),
    stamp() and size(), and makes up a path that names the image in messages.
    """

    id: str
    path: Path
    width: int
    height: int
    boxes: np.ndarray
    crowds: np.ndarray = field(default_factory=empty_boxes)
    image_id: int | str | None = None
    annotated: np.ndarray | None = None

    def read(self) -> bytes:
        """The encoded image (JPEG, PNG ...) as it lies on disk. UserError if it cannot be read."""
        return read_bytes(self.path)

    def stamp(self) -> tuple[int, int]:
        """(bytes, time in ns of the last change): what tells whether the image is still the same."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise UserError(f"{self.path}: cannot read the image: {error.strerror}") from error
        return status.st_size, status.st_mtime_ns

    def size(self) -> int:
        """Bytes of the encoded image."""
        return self.stamp()[0]

    def ground_truth(self) -> np.ndarray:
        """float32 [N + K, 7], as the metrics take it: boxes and crowds, with the column crowd (0 or 1) behind."""
        rows = np.concatenate([self.boxes, self.crowds])
        return np.column_stack([rows, np.arange(len(rows)) >= len(self.boxes)]).astype(np.float32)


def only_image(path: Path) -> Sample:
    """A sample of which nothing but its image file is known."""
    return Sample("", path, 0, 0, empty_boxes())


class Dataset(ABC):
    """Samples by split. `classes` and the others may be attributes or properties.

    classes: at least one name. available: the splits there are. category_ids: for formats whose files number the
    classes otherwise than 0, 1, 2 ...: the number of each class there, so that results can be written in them.
    """

    classes: tuple[str, ...]
    available: tuple[str, ...] = SPLITS[:2]
    category_ids: tuple[int, ...] | None = None

    @abstractmethod
    def split(self, name: str) -> list[Sample]:
        """The samples of "train", "val" or "test", always in the same order; UserError if there are none."""

    def split_category_ids(self, split: str) -> tuple[int | str, ...] | None:
        """category_ids as the files of one split have them; None where they number no classes, or not alike."""
        return self.category_ids

    def coverage(self, split: str) -> Coverage:
        """What was looked for and not found, or found and not used, of a split that can be read."""
        return Coverage()

    def records(self, split: str, folder: Path) -> Any:
        """Records (ssd.data.recordio.cache) of a split to train on as they are; None where it must be packed.

        folder: where files that are missing beside it may be written.
        """
        return None


def every_number(ids: Mapping[int, int | str], count: int) -> tuple[int | str, ...]:
    """The numbers of classes 0 .. count - 1: those of `ids`, and for the others unused ones above them."""
    free = itertools.count(max((int(number) for number in ids.values()), default=0) + 1)
    kind = str if any(isinstance(number, str) for number in ids.values()) else int
    return tuple(ids[place] if place in ids else kind(next(free)) for place in range(count))
