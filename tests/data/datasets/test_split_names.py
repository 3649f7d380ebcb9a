from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.config.overrides import normalize
from ssd.data.datasets.split_names import one_each, override, refuse_unknown, split_of
from ssd.utils.errors import UserError


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", "train Train TRAIN training train2017 train_2014 obj_train_data images_train trainset"),
        ("val", "val valid Validation val2017 dev obj_valid_data obj_Validation_data val-set valid_data"),
        ("test", "test testing Test2017 obj_test_data test_images"),
        (None, "trainval cam1 holdout fold1 eval extra train_old mytrain train1 images labels 2017 test-dev2017 '' x"),
    ],
)  # fmt: skip
def test_names(split, names):
    assert {name: split_of(name.strip("'")) for name in names.split()} == dict.fromkeys(names.split(), split)


@given(st.text(max_size=20))
def test_any_name_has_an_answer(name):
    assert split_of(name) in ("train", "val", "test", None)


def test_one_place_each():
    root = Path("data")
    places = [root / "train2017", root / "val.txt", root / "cam"]
    assert one_each(places, root) == {"train": root / "train2017", "val": root / "val.txt"}
    with pytest.raises(UserError) as error:
        one_each([*places, root / "valid"], root)
    assert str(error.value) == (
        "data: val.txt and valid all are named after the val split; say which to use: "
        "'dataset.splits.val=[val.txt,valid]'"
    )


def test_unknown_folders():
    root = Path("data")
    refuse_unknown([], root, {})
    with pytest.raises(UserError) as error:
        refuse_unknown([root / "images/cam1", root / "images/cam 2"], root, {})
    assert str(error.value) == (
        "data: the folders of images images/cam1, images/cam 2 are not named after a split (train, val, test); say "
        """which are to train on: 'dataset.splits.train=[images/cam1,"images/cam 2"]', and with dataset.splits.val """
        "which to validate on (without it a part of train is held out)"
    )
    with pytest.raises(
        UserError, match=r"cam1 \(beside images/train\) are not named .*'dataset.splits.train=\[images/tr"
    ):
        refuse_unknown([root / "images/cam1"], root, {"train": root / "images/train"})


@pytest.mark.parametrize(
    "name", ["a", "a/b", "a b", "2024", "010", "null", "it's", 'a"b', "a\\b", "ä", "a,b", "a=b", "~/x"]
)
def test_overrides_can_be_pasted(name):
    import shlex

    from hydra.core.override_parser.overrides_parser import OverridesParser

    (word,) = shlex.split(override("train", [name, "b"]))
    (parsed,) = OverridesParser.create().parse_overrides(normalize([word]))
    assert [str(item) for item in parsed.value()] == [name, "b"]
