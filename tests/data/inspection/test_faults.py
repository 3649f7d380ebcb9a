from pathlib import Path

import numpy as np
import pytest

from ssd.data import Sample
from ssd.data.coverage import BROKEN_LINKS, HIDDEN, Coverage
from ssd.data.inspection.faults import box_faults, coverage_remarks, double_faults, image_faults, split_faults
from ssd.data.inspection.looking import ImageFacts
from ssd.data.inspection.problems import WARNING


def sample(*rows, size=(200, 100), name="a"):
    return Sample(name, Path(f"{name}.jpg"), *size, np.array([(*row, 0) for row in rows], np.float32).reshape(-1, 6))


def message(*rows, size=(200, 100)):
    return [(problem.kind, problem.object) for problem in box_faults(sample(*rows, size=size), 2)]


def test_shares_instead_of_pixels():
    assert message((0, 0.1, 0.1, 0.5, 0.9), (1, 0, 0, 1, 1)) == [("units", None)]
    assert message((0, 0.1, 0.1, 0.5, 0.9), (1, 0, 0, 1, 50)) == []
    assert message((0, 0, 0, 1, 1), size=(8, 8)) == []


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ((0, 50, 10, 40, 60), "swapped"),
        ((0, 50, 10, 50, 60), "degenerate"),
        ((0, 50, 10, 202, 60), "out_of_range"),
        ((2, 50, 10, 60, 60), "class"),
        ((-1, 50, 10, 60, 60), "class"),
        ((0.5, 50, 10, 60, 60), "class"),
        ((0, 50, 10, np.inf, 60), "object"),
    ],
)
def test_what_a_reader_should_not_let_through(row, kind):
    assert message((0, 10, 10, 20, 20), row) == [(kind, 2)]


def test_a_size_that_is_missing():
    assert message((0, 10, 10, 20, 20), size=(0, 100)) == [("image_size", None)]


def test_the_image_against_its_annotation():
    seen = {size: list(image_faults(sample(), ImageFacts(b"1", size, None, None))) for size in [(200, 100), (100, 200)]}
    assert seen[200, 100] == []
    (problem,) = seen[100, 200]
    assert problem.line.startswith("a.jpg: the image is 100x200 but its annotation says 200x100; width and height")
    (problem,) = image_faults(sample(), ImageFacts(None, None, None, "it is no image"))
    assert (problem.kind, problem.line) == ("unreadable_image", "a.jpg: it is no image")


def test_one_file_twice_and_one_id_twice():
    twice = Sample("a", Path("sub/a.jpg"), 9, 9, sample().boxes)
    assert double_faults([sample(), sample(name="b"), twice, sample(name="c")]).keys() == {2}
    assert "'a', the other is a.jpg" in double_faults([sample(), twice])[1].line
    assert "listed twice" in double_faults([sample(), sample()])[1].line


def test_a_split_without_objects_or_labels():
    box = (0, 10, 10, 20, 20)
    assert list(split_faults("train", [sample(), sample(box)], Coverage())) == []
    (problem,) = split_faults("train", [sample(), sample()], Coverage())
    assert problem.line.startswith("none of the 2 images of train has an object")
    labels = Coverage(unlabeled=("b.jpg", "c.jpg"), searched=("labels/b.txt",))
    assert list(split_faults("train", [sample(box)] * 4, labels)) == []
    (problem,) = split_faults("train", [sample(box), sample(name="b"), sample(name="c")], labels)
    assert problem.line.startswith("2 of the 3 images of train have no label file (looked for labels/b.txt)")


def test_images_without_labels_that_are_not_in_the_split_count_beside_those_that_are():
    box = (0, 10, 10, 20, 20)
    assert list(split_faults("train", [sample(box)] * 3, Coverage(unlabeled=("z.jpg", "y.jpg")))) == []
    (problem,) = split_faults("train", [sample(box)], Coverage(unlabeled=("z.jpg", "y.jpg")))
    assert problem.line.startswith("2 of the 3 images of train have no label file")


def test_every_file_that_was_missed_or_not_used_is_a_remark():
    coverage = Coverage(
        unlabeled=("a.jpg", "b.jpg"),
        orphans=("c.txt",),
        searched=("labels/a.txt",),
        skipped={HIDDEN: (".d.jpg",), BROKEN_LINKS: ("e.jpg",)},
    )
    assert [(problem.kind, problem.file, problem.what, problem.severity) for problem in coverage_remarks(coverage)] == [
        ("unlabeled", "a.jpg", "the image has no label file; looked for labels/a.txt", WARNING),
        ("unlabeled", "b.jpg", "the image has no label file", WARNING),
        ("orphan", "c.txt", "the label belongs to no image", WARNING),
        ("passed_over", "e.jpg", f"passed over, one of: {BROKEN_LINKS}", WARNING),
    ]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a\nb", r"holds '\n'"), ("a\tb", r"holds '\t'"), ("\x1b[2J", r"holds '\x1b'"), ("a\u2028b", r"holds '\u2028'"),
        ("caf\udce9", "is not UTF-8 text"),
    ],
)  # fmt: skip
def test_a_path_that_lists_of_images_cannot_have(name, what):
    (problem,) = image_faults(sample(name=name), ImageFacts(b"1", (200, 100), None, None))
    assert (problem.kind, problem.what) == ("name", f"its path {what}, as no line of a list can; rename it")
    for usual in ("häuser", "日本", "a b", "'=x", "-x"):
        assert not list(image_faults(sample(name=usual), ImageFacts(b"1", (200, 100), None, None)))
