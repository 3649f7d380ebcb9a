from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssd.data import Sample
from ssd.data.datasets.fingerprint import fingerprint, fingerprints, same_images

CLASSES = ("cat", "dog")


def sample(number: int, box: tuple[float, ...] = (0, 1, 2, 30, 40, 0)) -> Sample:
    return Sample(f"{number:04d}", Path(f"/somewhere/{number}.jpg"), 100, 80, np.array([box], np.float32))


SAMPLES = [sample(number) for number in range(3)]


def test_golden_value() -> None:
    """Recorded runs are compared with later ones: the name of the same contents must stay."""
    assert fingerprint(SAMPLES, CLASSES) == "ee0151e3259289e9"


def test_order_and_place_do_not_matter() -> None:
    moved = [replace(one, path=Path("/elsewhere") / one.path.name) for one in reversed(SAMPLES)]
    assert fingerprint(moved, CLASSES) == fingerprint(SAMPLES, CLASSES)


@pytest.mark.parametrize(
    "changed",
    [
        SAMPLES[:2],
        [*SAMPLES, SAMPLES[0]],
        [*SAMPLES[:2], replace(SAMPLES[2], id="other")],
        [*SAMPLES[:2], replace(SAMPLES[2], width=101)],
        [*SAMPLES[:2], sample(2, (1, 1, 2, 30, 40, 0))],
        [*SAMPLES[:2], sample(2, (0, 1, 2, 30, 40.5, 0))],
        [*SAMPLES[:2], sample(2, (0, 1, 2, 30, 40, 1))],
        [*SAMPLES[:2], replace(SAMPLES[2], boxes=np.zeros((0, 6), np.float32), crowds=SAMPLES[2].boxes)],
        [],
    ],
)
def test_every_change_of_contents_changes_it(changed: list[Sample]) -> None:
    assert fingerprint(changed, CLASSES) != fingerprint(SAMPLES, CLASSES)


def test_class_names_count() -> None:
    assert len({fingerprint(SAMPLES, names) for names in (CLASSES, ("dog", "cat"), ("catdog",))}) == 3


def test_splits_apart_and_together() -> None:
    whole = fingerprints({"train": SAMPLES, "val": SAMPLES[:1]}, CLASSES)
    assert whole["train"] == fingerprint(SAMPLES, CLASSES)
    assert sorted(whole) == ["", "train", "val"]
    swapped = fingerprints({"val": SAMPLES, "train": SAMPLES[:1]}, CLASSES)
    assert swapped[""] != whole[""] == fingerprints({"val": SAMPLES[:1], "train": SAMPLES}, CLASSES)[""]


def files(folder: Path, *contents: str) -> list[Sample]:
    """Samples of equal sizes and boxes with these contents, named in this order."""
    folder.mkdir()
    samples = []
    for number, content in enumerate(contents):
        path = folder / f"{folder.name}{number}.jpg"
        path.write_text(content)
        samples.append(replace(sample(number), id=path.stem, path=path))
    return samples


def test_the_same_images_under_other_names_are_the_same(tmp_path: Path) -> None:
    val, copies = files(tmp_path / "val", "a", "b"), files(tmp_path / "test", "b", "a")
    assert same_images(val, val)
    assert same_images(val, copies)
    assert not same_images(val, files(tmp_path / "other", "a", "c"))
    assert not same_images(val, files(tmp_path / "twice", "a", "a"))
    assert not same_images(val, copies[:1])
    assert not same_images(val, [copies[0], replace(copies[1], boxes=copies[1].boxes + 1)])


def test_images_are_not_read_where_their_boxes_differ(tmp_path: Path) -> None:
    gone = replace(sample(0, (0, 1, 2, 3, 4, 0)), path=tmp_path / "gone.jpg")
    assert not same_images([gone], [sample(0)])
