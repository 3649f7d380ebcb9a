from pathlib import Path

import numpy as np

from ssd.data import Sample
from ssd.data.coverage import HIDDEN, Coverage
from ssd.data.inspection.census import Census, shared_line

BOX = np.array([[0, 1, 1, 9, 9, 0]], np.float32)


def samples(*boxes):
    """One per number of boxes."""
    return [Sample(str(n), Path(f"{n}.jpg"), 20, 20, np.repeat(BOX, n, axis=0)) for n in boxes]


def test_what_there_is_and_nothing_else():
    census = Census.of(samples(1, 2, 0), [b"a", b"b", None], Coverage())
    assert census.line() == "3 images, 2 with objects, 3 objects"
    assert census.numbers() == {
        "images_without_label_file": 0,
        "orphan_labels": 0,
        "repeated_images": 0,
        "passed_over": {},
    }


def test_everything_that_was_looked_for_in_vain_or_passed_over():
    coverage = Coverage(("a.jpg", "b.jpg"), ("c.txt",), (), {HIDDEN: ("._a.jpg",), "nothing": ()})
    census = Census.of(samples(1, 1, 1), [b"a", b"b", b"a"], coverage)
    assert census.line() == (
        "3 images, 3 with objects, 3 objects; 2 images without a label file (a.jpg, …); "
        "1 labels that belong to no image (c.txt); 1 images that repeat the contents of another; "
        "passed over: 1 hidden files and folders (._a.jpg)"
    )
    assert census.numbers() == {
        "images_without_label_file": 2,
        "orphan_labels": 1,
        "repeated_images": 1,
        "passed_over": {HIDDEN: 1},
    }


def test_what_two_splits_have_in_common():
    assert shared_line("test", "val", 4, (4, 4)) == "test and val are the same 4 images"
    assert shared_line("val", "train", 4, (4, 9)) == "4 of the 4 images of val are in train, too"
