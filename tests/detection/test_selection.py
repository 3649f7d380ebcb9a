import numpy as np
import pytest

from ssd.detection.selection import Selection
from ssd.utils.errors import UserError

CLASSES = ["cat", "dog", "person"]
FOUND = np.array([[2, 0.9, 0, 0, 1, 1], [1, 0.6, 0, 0, 1, 1], [2, 0.5, 0, 0, 1, 1], [0, 0.4, 0, 0, 1, 1]], np.float32)


@pytest.mark.parametrize(
    ("threshold", "wanted", "rows"),
    [
        (0.5, None, [0, 1, 2]),
        (0, None, [0, 1, 2, 3]),
        (0.5, ["dog", "cat"], [1]),
        (0.5, [], []),
        ({"person": 0.7, "others": 0.4}, None, [0, 1, 3]),
        ({"person": 0.7, "others": 0.3}, ["person"], [0]),
        ({"cat": 1.0, "dog": 0.0, "person": 1}, None, [1]),
    ],
)
def test_what_is_picked(threshold, wanted, rows):
    found = FOUND.copy()
    found[3, 1] = np.float32(0.45)
    np.testing.assert_array_equal(Selection.of(threshold, wanted, CLASSES).pick(found), found[rows])


def test_nothing_in_nothing_out():
    assert Selection.of(0.5, None, CLASSES).pick(np.zeros((0, 6), np.float32)).shape == (0, 6)


def test_description():
    assert Selection.of({"dog": 0.7, "others": 0.5}, ["dog", "cat"], CLASSES).describe(CLASSES) == {
        "cat": 0.5,
        "dog": 0.7,
    }


@pytest.mark.parametrize(
    ("threshold", "wanted", "message"),
    [
        (0.5, ["persn"], "job.classes: 'persn' is no class of this model; did you mean 'person'"),
        (0.5, ["xyz"], "it knows cat, dog, person"),
        ({"bird": 0.5, "others": 0.5}, None, "job.threshold: 'bird'"),
        ({"dog": 0.5}, None, "job.threshold says nothing of cat"),
        (1.5, None, "job.threshold: 1.5"),
        ("high", None, "job.threshold: 'high'"),
        (None, None, "job.threshold: None"),
        (True, None, "job.threshold: True"),
    ],
)
def test_mistakes(threshold, wanted, message):
    with pytest.raises(UserError, match=message):
        Selection.of(threshold, wanted, CLASSES)
