import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.inspection.checks import ALIASES, BoxChecker, class_index, class_names, find_class, nearly_equal
from ssd.utils.errors import UserError

coordinates = st.floats(-50, 150, width=32)


def test_class_index():
    assert class_index("cat", ["dog", "cat"], "a.xml") == 1
    with pytest.raises(UserError, match="a.xml: class 'catt' is not in dataset.classes; did you mean 'cat'?"):
        class_index("catt", ["dog", "cat"], "a.xml")
    with pytest.raises(UserError, match="dataset.classes has dog, cat"):
        class_index("zebra", ["dog", "cat"], "a.xml")


def test_good_boxes_pass_unchanged():
    checker = BoxChecker("error")
    rows = [(0, 0, 0, 100, 50, 0), (2, 1.5, 2.25, 3, 4, 1)]
    result = checker.check(rows, (100, 50), "a.xml")
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.array(rows, np.float32))
    assert checker.check([], (100, 50), "a.xml").shape == (0, 6)
    assert checker.dropped == []


def test_a_pixel_outside_is_rounding():
    result = BoxChecker("error").check([(0, -1, -0.5, 101, 51, 0)], (100, 50), "a.xml")
    np.testing.assert_array_equal(result, [[0, 0, 0, 100, 50, 0]])


def test_out_of_range():
    rows = [(0, 10, 10, 20, 20, 0), (1, 90, 10, 120, 20, 0), (1, 110, 10, 120, 20, 0)]
    message = (
        "a.xml: object 2, box (90, 10, 120, 20), leaves the image of 100x50; "
        "dataset.out_of_range=clip cuts such boxes, dataset.out_of_range=drop leaves them out"
    )
    with pytest.raises(UserError) as error:
        BoxChecker("error").check(rows, (100, 50), "a.xml")
    assert str(error.value) == message
    clip = BoxChecker("clip")
    np.testing.assert_array_equal(
        clip.check(rows, (100, 50), "a.xml"), [[0, 10, 10, 20, 20, 0], [1, 90, 10, 100, 20, 0]]
    )
    assert clip.dropped == ["a.xml: object 3, box (110, 10, 120, 20), lies outside the image of 100x50"]
    drop = BoxChecker("drop")
    np.testing.assert_array_equal(drop.check(rows, (100, 50), "a.xml"), [[0, 10, 10, 20, 20, 0]])
    assert len(drop.dropped) == 2
    with pytest.raises(UserError, match="out_of_range=ignore: expected error or clip or drop"):
        BoxChecker("ignore")


def test_report_has_ten_lines_then_a_count(caplog):
    checker = BoxChecker("error")
    assert checker.check([(0, 5, 5, 5, 9, 0)] * 13, (100, 50), "a.xml").shape == (0, 6)
    with caplog.at_level(logging.WARNING):
        checker.report()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 11
    assert lines[0] == "dropped: a.xml: object 1, box (5, 5, 5, 9), has no area"
    assert lines[-1] == "dropped: 3 more boxes"


@given(
    st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=8),
    st.sampled_from(["clip", "drop"]),
)
def test_what_remains_lies_inside_and_has_area(corners, out_of_range):
    checker = BoxChecker(out_of_range)
    result = checker.check([(0, *corner, 0) for corner in corners], (100, 50), "a.xml")
    assert len(result) + len(checker.dropped) == len(corners)
    assert (result[:, 1:5] >= 0).all()
    assert (result[:, [3, 4]] <= (100, 50)).all()
    assert (result[:, 3:5] > result[:, 1:3]).all()


def test_vocs_and_cocos_spellings_are_the_same_class():
    for voc, coco in ALIASES.items():
        assert find_class(voc, ["x", coco]) == find_class(coco, ["x", voc]) == 1
    assert find_class("sofa", ["couch", "sofa"]) == 1  # what is spelled the same comes first
    assert find_class("Sofa", ["couch"]) is None
    assert find_class("bed", ["couch"]) is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat", " dog "], ("cat", "dog")),
        ("cat", ("cat",)),
        (7, ("7",)),
        ([0, 1], ("0", "1")),
        (["010", "1e3", "no", "null", "~", "12:30"], ("010", "1e3", "no", "null", "~", "12:30")),
        ({0: "a", 1: "b"}, ("a", "b")),
        ({"1": "b", "0": "a"}, ("a", "b")),
        (["Cat", "cat", "a/b", "a,b", "x" * 500], ("Cat", "cat", "a/b", "a,b", "x" * 500)),
    ],
)
def test_class_names_are_text(names, expected):
    assert class_names(names, "dataset.classes") == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "must be a list of class names, at least one"),
        ("", "'' is empty"),
        (["a", None], "reads one of the names as nothing (null); put names in quotes"),
        ([False, "a"], "reads one of the names as the truth value false; put names in quotes"),
        ([1000.0], "reads one of the names as the number 1000.0; put"),
        (None, "reads one of the names as nothing (null)"),
        (["a", "a "], "'a' occurs twice"),
        (["a\nb"], "'a\\nb' holds a line break"),
        (["\ud800"], "is no text"),
        ([["a"]], "not of lists"),
        ({1: "a"}, "numbered 0, 1, 2"),
        ({"0": "a", 0: "b"}, "numbered 0, 1, 2"),
        ({"x": "a"}, "numbered 0, 1, 2"),
    ],
)
def test_what_are_no_class_names(names, message):
    with pytest.raises(UserError) as error:
        class_names(names, "dataset.classes")
    assert str(error.value).startswith("dataset.classes: ")
    assert message in str(error.value)


def test_classes_that_are_often_meant_as_one():
    assert nearly_equal(["cat", "dog", "Cat"]) == ("cat", "Cat")
    assert nearly_equal(["traffic light", "trafficlight"]) == ("traffic light", "trafficlight")
    assert nearly_equal(["cat", "cats", "a_b", "a-b"]) is None


texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)


@given(st.lists(texts, min_size=1, unique_by=str.strip))
def test_any_text_is_a_name_as_it_stands(names):
    names = [name for name in names if name.strip()] or ["x"]
    found = class_names(names, "x")
    assert found == tuple(name.strip() for name in names)
    assert class_names(list(found), "x") == found
    assert all(class_index(name, found, "x") == place for place, name in enumerate(found))
