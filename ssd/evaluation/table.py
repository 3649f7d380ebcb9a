"""Lists of one array per image, checked and joined into the single table that the metrics work on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssd.utils.errors import UserError

GROUND_TRUTH_COLUMNS = (5, 6, 7)  # class, xmin, ymin, xmax, ymax[, difficult[, crowd]]
DETECTION_COLUMNS = (6,)  # class, score, xmin, ymin, xmax, ymax


@dataclass(frozen=True)
class Table:
    """Rows of all images one under the other, in the order they came.

    image: int64 [R], index of each row's image. label: int64 [R], its class.
    values: float64 [R, K], the columns after the class.
    """

    image: np.ndarray
    label: np.ndarray
    values: np.ndarray

    def take(self, rows: np.ndarray) -> "Table":
        """The table of these rows, by index or mask."""
        return Table(self.image[rows], self.label[rows], self.values[rows])

    def per_image(self, images: int) -> np.ndarray:
        """int64 [images], how many rows each image has."""
        return np.bincount(self.image, minlength=images)

    def drawn(self, drawn: np.ndarray, images: int) -> tuple["Table", np.ndarray]:
        """The rows of the drawn images (numbers below `images`, repeated ones too), numbered anew in their order; and
        the row of this table that each is."""
        counts = self.per_image(images)
        start = np.cumsum(counts) - counts
        size = counts[drawn]
        rows = np.arange(size.sum()) + np.repeat(start[drawn] - (np.cumsum(size) - size), size)
        return Table(np.repeat(np.arange(len(drawn)), size), self.label[rows], self.values[rows]), rows


def ground_truth_table(ground_truth: Sequence[np.ndarray], num_classes: int) -> Table:
    """Join ground truth [M, 5..7] per image; values are [R, 6] (xmin, ymin, xmax, ymax, difficult, crowd).

    Raises UserError as `_join` does.
    """
    table = _join(ground_truth, GROUND_TRUTH_COLUMNS, num_classes, "ground truth")
    missing = GROUND_TRUTH_COLUMNS[-1] - 1 - table.values.shape[1]
    return Table(table.image, table.label, np.pad(table.values, ((0, 0), (0, missing))))


def detection_table(detections: Sequence[np.ndarray], num_classes: int) -> Table:
    """Join detections [N, 6] per image; values are [R, 5] (score, xmin, ymin, xmax, ymax).

    Raises UserError as `_join` does.
    """
    return _join(detections, DETECTION_COLUMNS, num_classes, "detections")


def check_same_images(ground_truth: Sequence[np.ndarray], detections: Sequence[np.ndarray]) -> None:
    """Both lists must speak of the same images."""
    if len(ground_truth) != len(detections):
        raise UserError(
            f"ground truth is for {len(ground_truth)} images but detections are for {len(detections)}: "
            "give one array per image in both, an empty one where there is nothing"
        )


def _join(rows: Sequence[np.ndarray], columns: tuple[int, ...], num_classes: int, what: str) -> Table:
    """Raises UserError for a wrong number of columns, a number that is not finite, or a class out of range."""
    arrays = [np.asarray(array) for array in rows]
    counts = np.array([len(array) for array in arrays], np.int64)
    filled = [array for array in arrays if len(array)]
    width = filled[0].shape[-1] if filled else columns[0]
    for index, array in enumerate(arrays):
        if len(array) and (array.ndim != 2 or array.shape[1] != width or width not in columns):
            wanted = " or ".join(map(str, columns))
            raise UserError(
                f"{what} of image {index} has shape {array.shape}: expected [rows, {wanted}], alike for all images"
            )
    joined = np.concatenate(filled).astype(np.float64) if filled else np.zeros((0, width))
    image = np.repeat(np.arange(len(arrays)), counts)
    _check(joined, image, num_classes, what)
    return Table(image, joined[:, 0].astype(np.int64), joined[:, 1:])


def _check(joined: np.ndarray, image: np.ndarray, num_classes: int, what: str) -> None:
    broken = ~np.isfinite(joined).all(axis=1)
    if broken.any():
        raise UserError(f"{what} of image {image[broken][0]} holds a number that is not finite")
    label = joined[:, 0]
    outside = (label < 0) | (label >= num_classes) | (label != np.floor(label))
    if outside.any():
        raise UserError(
            f"{what} of image {image[outside][0]} holds class {label[outside][0]:g}: "
            f"expected whole numbers from 0 to {num_classes - 1}"
        )
