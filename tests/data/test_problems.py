import pytest

from ssd.data.problems import Problem, collecting, refuse, skipping, tell
from ssd.errors import UserError


def test_without_a_collector_problems_are_errors():
    with pytest.raises(UserError, match="^a.xml: broken$"), skipping("unusable", "a.xml"):
        raise UserError("a.xml: broken")
    with pytest.raises(UserError, match="^a.xml: object 2 is odd$"):
        refuse(UserError("a.xml: object 2 is odd"), "object", "a.xml", 2)
    assert not tell(Problem("object", "a.xml", 1, "odd"))


def test_a_collector_gets_them_all_and_nothing_stops():
    with collecting() as problems:
        with skipping("unusable", "a.xml"):
            raise UserError("a.xml: broken")
        refuse(UserError("b.xml: object 2 (dog) has no <xmin>"), "object", "b.xml", 2)
        assert tell(Problem("degenerate", "c.xml", 1, "flat", "warning"))
    assert problems == [
        Problem("unusable", "a.xml", None, "broken", "error"),
        Problem("object", "b.xml", 2, "(dog) has no <xmin>", "error"),
        Problem("degenerate", "c.xml", 1, "flat", "warning"),
    ]
    assert not tell(problems[0])  # it is over


def test_only_user_errors_are_problems():
    with collecting() as problems, pytest.raises(ZeroDivisionError), skipping("unusable", "a.xml"):
        _ = 1 / 0
    assert problems == []


def test_voc_tells_everything_at_once_and_training_still_stops_at_the_first(voc):
    voc.add("a", [("dog", 5, 5, 70, 20), ("cow", 1, 1, 9, 9), ("cat", 9, 9, 4, 20), ("cat", 5, 5, 5, 9)])
    voc.xml("b").write_bytes(b"<annotation>")
    voc.xml("c").write_bytes(
        b"<annotation><size><width>60</width><height>40</height></size><object><name>cat</name></object>"
        b"<object><name>cat</name><bndbox><xmin>50</xmin><ymin>5</ymin><xmax>40</xmax><ymax>9</ymax></bndbox></object>"
        b"</annotation>"
    )
    voc.sets(train=["a", "b", "c", "nowhere"])
    dataset = voc.dataset(classes=["cat", "dog"])
    with pytest.raises(UserError, match="object 2: class 'cow'"):
        dataset.split("train")
    with collecting() as problems:
        samples = dataset.split("train")
    assert [(sample.id, len(sample.boxes)) for sample in samples] == [("a", 1), ("c", 0)]
    told = [(p.kind, p.file.rpartition("/")[2], p.object, p.severity) for p in problems]
    assert told == [
        ("class", "a.xml", 2, "error"),
        ("out_of_range", "a.xml", 1, "error"),
        ("swapped", "a.xml", 3, "error"),
        ("degenerate", "a.xml", 4, "warning"),
        ("unusable", "b.xml", None, "error"),
        ("object", "c.xml", 1, "error"),
        ("swapped", "c.xml", 2, "error"),
        ("unusable", "nowhere.xml", None, "error"),
    ]
    assert problems[0].what.startswith("class 'cow' is not in dataset.classes; dataset.classes has cat, dog (")
