from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssd.data import Sample
from ssd.data.fingerprint import fingerprint, fingerprints

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
