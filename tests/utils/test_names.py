import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.config.compose import compose
from ssd.config.resolvers import _run_name
from ssd.tracking.mlflow.names import clean as mlflow_clean
from ssd.tracking.summaries import clean as tensorboard_clean
from ssd.utils.names import MAX_BYTES, Tags, distinct, file_name

NAMES = ["cat", "Cat", "a b", "a_b", "a/b", "a:b", "..", ".", "/", "ü" * 300, "ü" * 301, "010", "null", "con.", " "]


@given(st.lists(st.text(min_size=1, max_size=200) | st.sampled_from(NAMES), unique=True, max_size=20))
def test_names_of_files_are_different_and_fit(names):
    found = distinct(names)
    assert len({name.casefold() for name in found}) == len(names)
    for name in found:
        assert 0 < len(name.encode()) <= MAX_BYTES
        assert not name.startswith((".", "/"))
        assert re.fullmatch(r"[\w\-.+= ]+", name)


@given(st.permutations(NAMES))
def test_what_a_name_becomes_does_not_depend_on_the_order(names):
    assert dict(zip(names, distinct(names), strict=True)) == dict(zip(NAMES, distinct(NAMES), strict=True))


def test_plain_names_stay():
    plain = ["cat", "traffic light", "1e3", "Übergröße", "a.b"]
    assert distinct(plain) == plain
    assert distinct(["a/b"]) == ["a_b"]
    assert distinct(["a/b", "a_b"])[1] == "a_b"
    assert file_name("../../etc") == file_name("../../etc") != file_name("../..\\etc")
    assert file_name("..") not in ("", ".", "..")


@pytest.mark.parametrize("clean", [tensorboard_clean, mlflow_clean], ids=["tensorboard", "mlflow"])
def test_two_classes_never_share_a_curve(clean):
    tags = Tags(NAMES, clean)
    for kind in ("val/ap_11pt", "val/ap_area", "val/pr", "ap_11pt", "final/ap_area"):
        found = [tags(f"{kind}/{name}") for name in NAMES]
        assert len({tag.casefold() for tag in found}) == len(NAMES)
        assert all(tag == clean(tag) and tag.startswith(f"{kind}/") for tag in found)
    assert tags("val/ap_11pt/cat") != tags("val/ap_11pt/Cat")
    assert Tags(["cat"], clean)("val/ap_11pt/cat") == "val/ap_11pt/cat"
    assert tags("train/loss") == "train/loss"
    assert tags("val/ap_11pt/unknown") == "val/ap_11pt/unknown"


@pytest.mark.parametrize("name", ["../../x", "a/b", "n" * 400, "..", "~", "2024"])
def test_names_that_become_folders(name):
    cfg = compose([f"dataset.name='{name}'"])
    folder = _run_name(_root_=cfg)
    assert "/" not in folder
    assert len(folder.encode()) <= MAX_BYTES
    assert folder.startswith("small_128_")
