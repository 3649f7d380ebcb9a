import cv2
import numpy as np
import pytest

from ssd.data.inspection.alike import difference_hash
from ssd.data.inspection.looking import THUMB, ImageFacts
from ssd.diagnostics.splits import Seen, lone_classes, odd_units, repeated, similar


def image(seed: int, change: float = 0, digest: bytes | None = None) -> ImageFacts:
    """A thumbnail of a smooth random image; `change` is added to every second row."""
    small = np.random.default_rng(seed).uniform(30, 220, (5, 5)).astype(np.float32)
    thumb = cv2.resize(small, (THUMB, THUMB))
    thumb[::2] += change
    return ImageFacts(digest or bytes([seed, int(change)]), (100, 100), thumb.clip(0, 255).astype(np.uint8), None)


def seen(*images: ImageFacts, start: str = "p") -> Seen:
    return Seen([f"{start}{number}.jpg" for number in range(len(images))], list(images))


def test_the_same_contents():
    splits = {"train": seen(image(1), image(2), image(1)), "val": seen(image(3), image(2), start="v")}
    message = [(f.kind, f.split, f.file, f.what) for f in repeated(splits)]
    assert message == [
        ("repeated", "train", "p2.jpg", "again, as p0.jpg"),
        ("leak", "val", "v1.jpg", "in train too, as p1.jpg"),
    ]


def test_one_file_in_both_splits():
    splits = {"train": seen(image(1)), "val": seen(image(1))}
    assert [(f.kind, f.what) for f in repeated(splits)] == [("leak", "in train too")]


def test_val_and_test_may_share_images():
    assert not list(repeated({"val": seen(image(1)), "test": seen(image(1))}))


def test_files_that_could_not_be_read_are_not_each_other():
    unreadable = ImageFacts(None, None, None, "gone")
    assert not list(repeated({"train": seen(unreadable, unreadable), "val": seen(unreadable)}))
    assert not list(similar({"train": seen(unreadable, unreadable), "val": seen(unreadable)}))


def test_similar_images():
    train = seen(*[image(seed) for seed in range(40)])
    val = seen(image(7, change=3), image(50), start="v")
    message = [(f.kind, f.file, f.what) for f in similar({"train": train, "val": val})]
    assert message == [("similar", "v0.jpg", "looks like p7.jpg of train")]


def test_exact_copies_are_not_also_similar():
    assert not list(similar({"train": seen(image(7)), "val": seen(image(7))}))


def test_different_images_are_not_similar():
    train = seen(*[image(seed) for seed in range(100)])
    assert not list(similar({"train": train, "val": seen(*[image(seed) for seed in range(100, 200)])}))


def test_empty_images_all_look_alike_and_are_not_told():
    flat = [ImageFacts(bytes([k]), (9, 9), np.full((THUMB, THUMB), 200 + k, np.uint8), None) for k in range(3)]
    assert not list(similar({"train": seen(flat[0]), "val": seen(flat[1], flat[2])}))


def test_difference_hash_by_hand():
    rising = np.tile(np.arange(THUMB, dtype=np.uint8), (1, THUMB))
    # Only the last column is brighter than its neighbor, the first.
    assert difference_hash(rising).reshape(8, 8).tolist() == [[-1] * 7 + [1]] * 8
    np.testing.assert_array_equal(difference_hash(rising), difference_hash(rising * 2 + 5))


def test_classes_of_one_split():
    counts = {"train": np.array([3, 0, 2, 0]), "val": np.array([1, 4, 0, 0])}
    message = [finding.what for finding in lone_classes(counts, ["cat", "dog", "cow", "elk"])]
    assert message == ["dog: 4 in val, none in train", "cow: 2 in train, none in val", "elk: no split has a box of it"]
    assert not list(lone_classes({"train": np.array([3, 1])}, ["cat", "dog"]))


@pytest.mark.parametrize(("unit", "message"), [(100, True), (1000, True), (640, False), (300, False)])
def test_percents_and_thousandths(unit, message):
    random = np.random.default_rng(0)
    low = random.uniform(0, 0.5, (50, 2))
    corners = np.hstack([low, low + 0.3]) * unit
    corners[0, 2] = unit
    sizes = np.full((50, 2), 3000.0)
    assert bool(list(odd_units(corners, sizes))) is message
    assert not list(odd_units(corners[:10], sizes[:10]))  # too few to say
    assert not list(odd_units(corners, np.full((50, 2), float(unit))))
