"""What the comparison of detection lists lets pass, and what not."""

from collections.abc import Callable

import numpy as np
import pytest

ROWS = np.array([[0, 0.9, 1, 2, 30, 40], [1, 0.60001, 5, 5, 9, 9], [0, 0.6, 50, 5, 60, 9], [2, 0.30002, 7, 7, 8, 8]])
Check = Callable[..., None]


def changed(row: int, column: int, by: float) -> np.ndarray:
    rows = ROWS.copy()
    rows[row, column] += by
    return rows


@pytest.mark.parametrize(
    "found",
    [ROWS, ROWS[::-1], ROWS[[0, 2, 1, 3]], ROWS[:3], np.vstack([ROWS, [1, 0.3, 0, 0, 1, 1]]), changed(0, 4, 0.01)],
)
def test_rounding_passes(same_detections: Check, found: np.ndarray) -> None:
    same_detections(found, ROWS, threshold=0.3)
    same_detections(ROWS, found, threshold=0.3)


@pytest.mark.parametrize(
    "found",
    [
        ROWS[1:],  # one that is surely above the threshold is missing
        ROWS[[0, 0, 1, 2, 3]],  # or there twice
        np.vstack([ROWS, [1, 0.4, 0, 0, 1, 1]]),
        changed(0, 4, 0.1),
        changed(0, 1, 0.001),
        changed(1, 0, 1),
        [],
    ],
)
def test_anything_else_fails(same_detections: Check, found: np.ndarray) -> None:
    for pair in ((found, ROWS), (ROWS, found)):
        with pytest.raises(AssertionError, match="without a counterpart"):
            same_detections(*pair, threshold=0.3)


def test_a_full_list_ends_where_scores_are_equal(same_detections: Check) -> None:
    rows = np.vstack([ROWS[:1], [[0, 0.2, 50 * k, 0, 50 * k + 9, 9] for k in range(9)]])
    same_detections(rows[:5], rows[[0, 5, 6, 7, 8]], keep=5)
    for first, second in ((rows[:5], rows[[0, 5, 6, 7, 8]]), (rows[:4], rows[:5])):
        with pytest.raises(AssertionError):
            same_detections(first, second, keep=6)


def test_nothing_is_nothing(same_detections: Check) -> None:
    same_detections([], np.empty((0, 6)), threshold=0.3)
