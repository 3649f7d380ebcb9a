import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.base import only_image
from ssd.data.datasets.splits import HoldOut
from ssd.utils.errors import UserError

NAMES = [f"{number:03d}.jpg" for number in range(100)]


GOLDEN = {
    "val": [f"{number:03d}.jpg" for number in (7, 15, 30, 31, 37, 48, 65, 73, 95, 97)],
    "test": [f"{number:03d}.jpg" for number in (9, 12, 39, 77, 87)],
}


def pick(holdout: HoldOut, split: str, given=("train",), names=NAMES) -> list[str]:
    members = {"train": names, "val": ["own_val"], "test": ["own_test"]}
    return holdout.pick(split, given, lambda name: members[name], str, lambda name: None)


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


def test_a_share_too_small_for_one_image_takes_one():
    assert len(pick(HoldOut(0.1, 0, 0), "val", names=NAMES[:3])) == 1


def test_without_groups_the_split_is_that_of_the_seed_alone():
    """Written down once: a split that changes makes old numbers incomparable."""
    assert pick(HoldOut(0.1, 0.05, 7), "val") == GOLDEN["val"]
    assert pick(HoldOut(0.1, 0.05, 7), "test") == GOLDEN["test"]


def test_groups_by_name_stay_on_one_side():
    names = [f"clip{clip:02d}/frame_{frame}.jpg" for clip in range(20) for frame in range(5)]
    for regex in (r"^[^/]+", r"^(.*)/frame"):
        holdout = HoldOut(0.2, 0.1, 0, group_by=regex)
        parts = {split: pick(holdout, split, names=names) for split in ("train", "val", "test")}
        assert [len(part) for part in parts.values()] == [70, 20, 10]
        clips = [{name[:6] for name in part} for part in parts.values()]
        assert sum(map(len, clips)) == len(set.union(*clips)) == 20


def test_groups_that_do_not_fit_exactly():
    """No more than asked for, but never nothing."""
    names = ["a1", "a2", "a3", "a4", "b1", "b2", "b3", "c1", "c2", "c3"]
    val = pick(HoldOut(0.3, 0, 0, group_by="^."), "val", names=names)
    assert len(val) == 3
    assert len({name[0] for name in val}) == 1
    assert len(pick(HoldOut(0.1, 0, 0, group_by="^."), "val", names=names)) == 3
    assert pick(HoldOut(0.1, 0, 0, group_by="^."), "train", names=names)[:4] == names[:4]


def test_names_that_a_group_is_not_found_in(caplog):
    caplog.set_level("INFO")
    names = ["p1_a", "p1_b", "p2_a", "other"]
    assert len(pick(HoldOut(0.25, 0, 0, group_by=r"p\d"), "val", names=names)) == 1
    assert "dataset.group_by: 2 groups in 4 file names" in caplog.text
    assert r"dataset.group_by=p\d is not found in 1 of 4 file names, such as other" in caplog.text
    with pytest.raises(UserError, match="dataset.group_by=z: is found in none of 4 file names such as p1_a"):
        pick(HoldOut(0.25, 0, 0, group_by="z"), "val", names=names)
    with pytest.raises(UserError, match="dataset.group_by=\\(: not a regular expression"):
        HoldOut.from_config({"val": 0.2, "test": 0, "seed": 0, "group_by": "("})


def test_groups_of_splits_that_are_given(caplog):
    assert pick(HoldOut(0.2, 0, 0, group_by="^."), "train", ("train", "val")) == NAMES
    assert "dataset.group_by=^. has no effect: nothing is held out of train" in caplog.text


def test_copies_stay_on_one_side(tmp_path, jpeg):
    def look_of(name: str):
        path = tmp_path / name
        path.write_bytes(jpeg(60, 40, seed=int(name) // 4))
        return only_image(path)

    names = [str(number) for number in range(40)]
    holdout = HoldOut(0.2, 0.2, 0)
    splits = ("train", "val", "test")
    parts = {split: holdout.pick(split, ["train"], lambda name: names, str, look_of) for split in splits}
    assert [len(part) for part in parts.values()] == [24, 8, 8]
    seeds = [{int(name) // 4 for name in part} for part in parts.values()]
    assert sum(map(len, seeds)) == len(set.union(*seeds)) == 10
    with pytest.raises(UserError, match="no image is left for the val split: of 4 to train on, .* look alike"):
        holdout.pick("val", ["train"], lambda name: names[:4], str, look_of)


def test_nothing_left():
    with pytest.raises(UserError, match="no image is left for the val split"):
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
