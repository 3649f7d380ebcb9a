"""Numbers that can be checked by hand."""

from pathlib import Path

import numpy as np
import pytest

from ssd.data import Sample
from ssd.diagnostics.statistics import RATIO_EDGES, SIDE_EDGES, anchor_table, counts, gather, histogram, join, match
from ssd.symbol.anchors import AnchorGrid


def sample(*rows, size=(200, 100)) -> Sample:
    return Sample("a", Path("a.jpg"), *size, np.array(rows, np.float32).reshape(-1, 6))


SAMPLES = [
    sample((0, 0, 0, 100, 50, 0), (1, 100, 50, 200, 100, 1), (0, 50, 25, 150, 75, 0)),
    sample(),
    sample((0, 0, 0, 20, 20, 0), size=(40, 40)),
]
# One map of 2x2 cells with half of the input as its anchor, one of 1x1 cells with the whole.
GRIDS = [
    AnchorGrid("fine", 2, 2, (0.5, 0.5), np.array([[0.5, 0.5]])),
    AnchorGrid("coarse", 1, 1, (1, 1), np.array([[1.0, 1.0], [0.5, 0.25]])),
]


def test_counts():
    assert counts(SAMPLES, gather(SAMPLES), ("cat", "dog", "cow")) == {
        "images": 3,
        "images_without_objects": 1,
        "boxes": 4,
        "difficult": 1,
        "classes": {
            "cat": {"boxes": 3, "images": 2},
            "dog": {"boxes": 1, "images": 1},
            "cow": {"boxes": 0, "images": 0},
        },
    }


def test_shapes_at_the_input():
    boxes = gather(SAMPLES)
    np.testing.assert_allclose(boxes.shapes(300, 150), [[150, 75]] * 4)
    np.testing.assert_allclose(boxes.shares[2], [0.25, 0.25, 0.75, 0.75])


def test_matching_by_hand():
    """Three boxes are an anchor of the fine map; the one in the middle overlaps each of the four by a quarter of
    itself, 1/7 of the union, and is twice the small coarse anchor."""
    found = match(GRIDS, gather(SAMPLES), 0.5)
    np.testing.assert_allclose(found.ious, [[1, 0.25], [1, 0.25], [1 / 7, 0.5], [1, 0.25]], atol=1e-6)
    assert found.matched.tolist() == [True, True, True, True]
    assert found.share == 1
    strict = match(GRIDS, gather(SAMPLES), 0.6)
    assert strict.matched.tolist() == [True, True, False, True]
    assert strict.forced.tolist() == [False, False, True, False]


def test_anchor_table():
    table = anchor_table(GRIDS, match(GRIDS, gather(SAMPLES), 0.5), 200, 100)
    fine, coarse = table["layers"]
    assert (fine["anchors"], fine["boxes"], fine["best"]) == (4, 3, 3)
    assert (coarse["anchors"], coarse["boxes"], coarse["best"]) == (2, 1, 1)
    assert fine["step"] == [100, 50]
    assert coarse["shapes"] == [[200, 100], [100, 25]]
    totals = {key: table[key] for key in ("anchors", "boxes", "matched", "forced", "unmatched", "share")}
    assert totals == {"anchors": 6, "boxes": 4, "matched": 4, "forced": 0, "unmatched": 0, "share": 1}
    assert table["mean_iou"] == pytest.approx(3.5 / 4)


def test_a_box_that_no_anchor_touches():
    corner = [AnchorGrid("corner", 1, 1, (0.2, 0.2), np.array([[0.2, 0.2]]))]
    boxes = gather([sample((0, 100, 50, 200, 100, 0))])
    found = match(corner, boxes, 0.5)
    assert (found.matched.sum(), found.forced.sum()) == (0, 0)
    assert anchor_table(corner, found, 100, 100)["unmatched"] == 1


def test_histogram():
    values = np.array([0.5, 1, 1.9, 2, 5000])
    big = values > 1.5
    found = histogram(values, np.array([1.0, 2, 4]), {"big": big, "small": ~big})
    assert found == {"edges": [1, 2, 4], "big": [1, 2], "small": [2, 0]}
    assert len(SIDE_EDGES) == 34
    assert RATIO_EDGES[9] == pytest.approx(1)


def test_nothing():
    boxes = gather([])
    assert len(boxes) == 0
    found = match(GRIDS, join([boxes, boxes]), 0.5)
    assert found.share == 1
    table = anchor_table(GRIDS, found, 100, 100)
    assert (table["boxes"], table["matched"], table["mean_iou"]) == (0, 0, None)
