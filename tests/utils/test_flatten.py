from ssd.utils.flatten import each_leaf, leaves, map_texts

TREE = {"a": {"b": 1, "c": [{"d": 2}, 3]}, "e": {}, "f": None}


def test_leaves_by_dotted_key():
    assert leaves(TREE) == {"a.b": 1, "a.c": [{"d": 2}, 3], "e": {}, "f": None}
    assert leaves({}) == {}


def test_lists_are_entered_where_that_is_wanted():
    assert list(each_leaf(TREE["a"], "x", lambda key: key == "x.c")) == [("x.b", 1), ("x.c.d", 2), ("x.c", 3)]
    assert list(each_leaf([1, 2], "x")) == [("x", [1, 2])]
    assert list(each_leaf({}, "x")) == [("x", {})]


def test_texts_are_changed_wherever_they_are() -> None:
    node = {"a": ["x", ("y", 1)], "x": {"b": None, "c": "x"}}
    assert map_texts(node, str.upper) == {"a": ["X", ["Y", 1]], "x": {"b": None, "c": "X"}}
    assert map_texts("x", str.upper) == "X"
