"""What every data set is to the rest of the package: class names, and lists of samples under the names of splits.

A format of one's own is one class:

    class Mine(Dataset):
        def __init__(self, folder: str) -> None: ...
        classes = ("cat", "dog")
        def split(self, name): return [Sample(...), ...]

chosen by `dataset._target_=my_module.Mine`. Reading each picture inside `with skipping(...)` (ssd.data.problems) lets
job=check list all mistakes of such a data set instead of the first.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from ssd.data.images import read_bytes
from ssd.errors import UserError

BOX_COLUMNS = 6  # class, xmin, ymin, xmax, ymax, difficult
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture and its ground truth.

    boxes: float32 [N, 6] rows (class, xmin, ymin, xmax, ymax, difficult); class counts from 0 into the data set's
    `classes`; corners are continuous pixel coordinates of the picture, 0..width and 0..height. N may be 0.
    A format that keeps its pictures elsewhere than in files of their own overrides read().
    """

    id: str
    path: Path
    width: int
    height: int
    boxes: np.ndarray

    def read(self) -> bytes:
        """The encoded picture (JPEG, PNG ...) as it lies on disk. UserError if it cannot be read."""
        return read_bytes(self.path)


class Dataset(ABC):
    """Samples by split. `classes` may be an attribute or a property; it holds at least one name."""

    classes: tuple[str, ...]

    @abstractmethod
    def split(self, name: str) -> list[Sample]:
        """The samples of "train", "val" or "test", always in the same order; UserError if there are none."""


def no_boxes() -> np.ndarray:
    """The ground truth of a picture without objects: float32 [0, 6]."""
    return np.zeros((0, BOX_COLUMNS), np.float32)


def make_dataset(cfg: DictConfig) -> Dataset:
    """The data set that `cfg` (the group `dataset`: _target_ and its options) describes.

    Errors of the class itself come out as they are; a wrong `_target_` or option is a UserError.
    """
    try:
        dataset: Any = hydra.utils.instantiate(cfg, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if error.__cause__ is None or isinstance(error.__cause__, (TypeError, ImportError)):
            reason = " ".join(str(error.__cause__ or error).split())
            raise UserError(f"dataset {cfg.get('_target_')!r}: {reason}") from error
        raise
    if not isinstance(dataset, Dataset):
        raise UserError(f"dataset._target_ {cfg.get('_target_')!r} is not a class derived from ssd.data.Dataset")
    return dataset
