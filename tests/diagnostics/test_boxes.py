from pathlib import Path

import numpy as np

from ssd.data import Sample
from ssd.diagnostics.boxes import Input, remarks

TARGET = Input(100, 100, 4)


def message(*rows, size=(200, 100), target=TARGET):
    sample = Sample("a", Path("a.jpg"), *size, np.array([(*row, 0) for row in rows], np.float32).reshape(-1, 6))
    return [(remark.kind, remark.object) for remark in remarks(sample, ("cat", "dog"), target)]


def test_nothing_to_say():
    assert message() == []
    assert message((0, 10, 10, 60, 60), (1, 100, 10, 160, 60)) == []


def test_small_is_judged_at_the_input():
    """7 pixels of 200 are 3.5 of 100; of their height nothing is lost."""
    assert message((0, 10, 10, 17, 60)) == [("small", 1)]
    assert message((0, 10, 10, 18, 60)) == []
    assert message((0, 10, 10, 17, 60), target=Input(200, 200, 4)) == []


def test_one_remark_for_all_small_boxes_of_a_image():
    rows = [(0, 10, 10, 60, 60), *[(1, x, 50, x + 2, 53) for x in range(100, 150, 10)]]
    sample = Sample("a", Path("a.jpg"), 200, 100, np.array([(*row, 0) for row in rows], np.float32))
    remark, *rest = remarks(sample, ("cat", "dog"), Input(100, 100, 4))
    assert not rest
    assert remark.what == "5 of 6 boxes, down to 1.0x3.0 pixels at 100x100"


def test_duplicates_are_told_of_the_later_box():
    box = (10, 10, 60, 60)
    assert message((0, *box), (0, *box)) == [("duplicate", 2)]
    assert message((0, *box), (1, *box)) == [("conflict", 2)]
    assert message((0, *box), (0, *box), (0, *box)) == [("duplicate", 2), ("duplicate", 3)]
    assert message((0, *box), (0, 10, 10, 60, 60.4)) == [("duplicate", 2)]
    assert message((0, *box), (0, 10, 10, 60, 65)) == []
