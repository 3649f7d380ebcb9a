import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.splits import HoldOut
from ssd.errors import UserError

NAMES = [f"{number:03d}.jpg" for number in range(100)]


def pick(holdout: HoldOut, split: str, given=("train",), names=NAMES) -> list[str]:
    members = {"train": names, "val": ["own_val"], "test": ["own_test"]}
    return holdout.pick(split, given, lambda name: members[name], str)


def test_three_parts_that_make_up_the_whole_in_its_order():
    holdout = HoldOut(0.2, 0.1, 0)
    parts = {name: pick(holdout, name) for name in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [70, 20, 10]
    assert sorted(sum(parts.values(), [])) == NAMES
    assert all(part == sorted(part) for part in parts.values())


def test_a_split_that_is_given_is_taken_and_train_stays_whole():
    holdout = HoldOut(0.2, 0.1, 0)
    assert pick(holdout, "val", ("train", "val", "test")) == ["own_val"]
    assert pick(holdout, "train", ("train", "val", "test")) == NAMES
    assert len(pick(holdout, "train", ("train", "val"))) == 90
    assert holdout.available(["train"]) == ("train", "val", "test")
    assert holdout.available(["train", "val"]) == ("train", "val", "test")


def test_without_a_test_split_test_means_val():
    holdout = HoldOut(0.2, 0.0, 0)
    assert pick(holdout, "test") == pick(holdout, "val")
    assert pick(holdout, "test", ("train", "val")) == ["own_val"]
    assert holdout.available(["train"]) == ("train", "val")
    assert HoldOut(0.0, 0.0, 0).available(["train"]) == ("train",)


@given(st.permutations(NAMES[:20]), st.integers(0, 2**31))
def test_the_place_depends_on_name_and_seed_alone(names, seed):
    holdout = HoldOut(0.25, 0.0, seed)
    assert sorted(pick(holdout, "val", names=names)) == pick(holdout, "val", names=NAMES[:20])


def test_another_seed_is_another_split():
    assert pick(HoldOut(0.2, 0, 0), "val") != pick(HoldOut(0.2, 0, 1), "val")


def test_a_share_too_small_for_one_picture_takes_one():
    assert len(pick(HoldOut(0.1, 0, 0), "val", names=NAMES[:3])) == 1


def test_nothing_left():
    with pytest.raises(UserError, match="no picture is left for the val split"):
        pick(HoldOut(0.0, 0.0, 0), "val")
    with pytest.raises(UserError, match="of 1 to train on"):
        pick(HoldOut(0.3, 0.0, 0), "val", names=NAMES[:1])


@pytest.mark.parametrize(
    "node",
    [
        {},
        {"val": 0.2, "test": 0.9, "seed": 0},
        {"val": -0.1, "test": 0, "seed": 0},
        {"val": "a", "test": 0, "seed": 0},
        {"val": 0.1, "test": 0, "seed": 0.5},
        {"val": 0.1, "test": 0, "seed": 0, "vall": 1},
    ],
)
def test_what_is_no_holdout(node):
    with pytest.raises(UserError, match="dataset.holdout .* must be"):
        HoldOut.from_config(node)
