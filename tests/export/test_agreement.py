"""Telling detections apart from rounding."""

import numpy as np
import pytest

from ssd.export.agreement import NEAR, compare_rows
from ssd.ops.boxes import DecodeParams

PARAMS = DecodeParams(score=0.1, nms=0.45, topk=400, keep=4, soft_nms=None, sigma=0.5, flip=False)
ROWS = np.array([[0, 0.9, 10, 10, 50, 50], [1, 0.8, 10, 10, 50, 50], [0, 0.7, 60, 60, 90, 90]], np.float32)


def changed(row, column, by):
    rows = ROWS.copy()
    rows[row, column] += by
    return rows


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (ROWS, (0, 0)),
        (ROWS[::-1], (0, 0)),
        (changed(0, 1, 1e-5), (0, 0)),
        (changed(0, 2, 0.01), (0, 0)),
        (changed(0, 1, 0.01), (2, 0)),
        (changed(0, 2, 1), (2, 0)),
        (changed(0, 0, 1), (2, 0)),
        (ROWS[:2], (1, 0)),
        (ROWS[:0], (3, 0)),
    ],
)
def test_rows_are_the_same_or_not(rows, expected):
    assert compare_rows(ROWS, rows, PARAMS, NEAR * 100) == expected


def test_what_met_a_limit_by_a_hair_is_excused():
    at_score = np.array([[0, 0.10001, 0, 0, 9, 9]], np.float32)
    assert compare_rows(np.concatenate([ROWS, at_score]), ROWS, PARAMS, NEAR * 100) == (0, 1)
    # Two boxes of the same class with an IoU of .45: one suppresses the other, or not.
    pair = np.array([[0, 0.9, 0, 0, 100, 100], [0, 0.8, 0, 0, 45, 100]], np.float32)
    assert compare_rows(pair, pair[:1], PARAMS, NEAR * 100) == (0, 1)
    pair[1, 4] = 50
    assert compare_rows(pair, pair[:1], PARAMS, NEAR * 100) == (1, 0)
    # Full lists end where the score says: the last ones may be others.
    full = np.array([[0, 0.9 - 0.1 * n, 20 * n, 0, 20 * n + 10, 10] for n in range(4)], np.float32)
    other = full.copy()
    other[3] = [1, 0.6, 0, 80, 10, 90]
    assert compare_rows(full, other, PARAMS, NEAR * 100) == (0, 2)
