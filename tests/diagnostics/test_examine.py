"""Every kind of finding, provoked in a healthy dataset."""

import cv2
import numpy as np
import pytest

from ssd.data import Dataset, Sample
from ssd.data.inspection.gate import Gate
from ssd.data.inspection.problems import ERROR, WARNING
from ssd.diagnostics.boxes import Input
from ssd.diagnostics.examine import examine
from ssd.utils.errors import UserError

TARGET = Input(128, 128, 4)
SPLITS = ("train", "val", "test")


def found(dataset: Dataset) -> list[tuple]:
    """(kind, severity, split, file name, object) of every finding."""
    findings = examine(Gate(lambda: dataset, "refuse"), SPLITS, TARGET, 100).findings
    return [(f.kind, f.severity, f.split, f.file.rpartition("/")[2], f.object) for f in findings]


def test_a_healthy_dataset_has_no_findings(folder):
    examination = examine(Gate(folder.dataset, "refuse"), SPLITS, TARGET, 100)
    assert list(examination.findings) == []
    assert {split: len(samples) for split, samples in examination.samples.items()} == {"train": 4, "val": 2}


def replace(path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def break_xml(folder):
    folder.xml("t0").write_text("<annotation>")


def lose_annotation(folder):
    folder.xml("t0").unlink()


def lose_image(folder):
    folder.image("t0").unlink()


def truncate(folder):
    folder.image("t0").write_bytes(folder.image("t0").read_bytes()[:-300])


def no_image(folder):
    folder.image("t0").write_bytes(b"<html>404</html>")


def other_size(folder):
    folder.image("t0").write_bytes(cv2.imencode(".jpg", np.zeros((100, 150, 3), np.uint8))[1].tobytes())


def nameless(folder):
    replace(folder.xml("t0"), "<name>cat</name>", "")


def unknown_class(folder):
    replace(folder.xml("t0"), "<name>cat</name>", "<name>catt</name>")


def swap_corners(folder):
    folder.objects("t0", [("dog", 11, 11, 50, 40), ("cat", 80, 31, 61, 50)])


def width_and_height(folder):
    folder.objects("t0", [("dog", 50, 40, 40, 20), ("cat", 1, 1, 20, 20)])


def outside(folder):
    folder.objects("t0", [("dog", 11, 11, 50, 40), ("cat", 61, 31, 180, 50)])


def shares(folder):
    folder.objects("t0", [("dog", 0.1, 0.2, 0.5, 0.6), ("cat", 0.6, 0.3, 0.8, 0.9)])


def flat(folder):
    folder.objects("t0", [("dog", 11, 11, 50, 40), ("cat", 61, 31, 61, 50)])


def twice(folder):
    folder.objects("t0", [("dog", 11, 11, 50, 40), ("cat", 61, 31, 80, 50), ("dog", 11, 11, 50, 40)])


def contradiction(folder):
    folder.objects("t0", [("dog", 11, 11, 50, 40), ("cat", 61, 31, 80, 50), ("cat", 11, 11, 50, 40)])


def tiny(folder):
    folder.objects("t0", [("dog", 11, 11, 50, 40), ("cat", 61, 31, 62, 32)])


def leak(folder):
    folder.image("v1").write_bytes(folder.image("t0").read_bytes())


def repeat(folder):
    folder.image("t1").write_bytes(folder.image("t0").read_bytes())


def only_in_train(folder):
    for identifier in ("v0", "v1"):
        folder.objects(identifier, [("dog", 11, 11, 50, 40)])


def no_val(folder):
    (folder.root / "ImageSets/Main/val.txt").unlink()


def leave_an_image_out(folder):
    folder.image("t9").write_bytes(folder.image("t0").read_bytes())


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (leave_an_image_out, [("passed_over", WARNING, "train", "t9.jpg", None)]),
        (break_xml, [("unusable", ERROR, "train", "t0.xml", None)]),
        (
            lose_annotation,
            [("unusable", ERROR, "train", "t0.xml", None), ("passed_over", WARNING, "train", "t0.jpg", None)],
        ),
        (lose_image, [("unusable", ERROR, "train", "t0.xml", None)]),
        (truncate, [("unreadable_image", ERROR, "train", "t0.jpg", None)]),
        (no_image, [("unreadable_image", ERROR, "train", "t0.jpg", None)]),
        (other_size, [("image_size", ERROR, "train", "t0.jpg", None)]),
        (nameless, [("object", ERROR, "train", "t0.xml", 2)]),
        (unknown_class, [("class", ERROR, "train", "t0.xml", 2)]),
        (swap_corners, [("swapped", ERROR, "train", "t0.xml", 2)]),
        (width_and_height, [("swapped", ERROR, "train", "t0.xml", 1)]),
        (outside, [("out_of_range", ERROR, "train", "t0.xml", 2)]),
        (shares, [("units", ERROR, "train", "t0.jpg", None)]),
        (flat, [("degenerate", WARNING, "train", "t0.xml", 2)]),
        (twice, [("duplicate", WARNING, "train", "t0.jpg", 3)]),
        (contradiction, [("conflict", WARNING, "train", "t0.jpg", 3)]),
        (tiny, [("small", WARNING, "train", "t0.jpg", 2)]),
        (leak, [("leak", ERROR, "val", "v1.jpg", None)]),
        (repeat, [("repeated", WARNING, "train", "t1.jpg", None)]),
        (only_in_train, [("classes", WARNING, "", "", None)]),
        (
            no_val,
            [
                ("split", ERROR, "val", "", None),
                ("passed_over", WARNING, "train", "v0.jpg", None),
                ("passed_over", WARNING, "train", "v1.jpg", None),
            ],
        ),
    ],
)
def test_kinds(folder, harm, expected):
    harm(folder)
    assert found(folder.dataset()) == expected


def test_a_image_of_val_that_is_nearly_one_of_train(folder, noise, jpeg):
    copy = cv2.resize(noise(0), (120, 80))
    folder.add("v1", [("dog", 11, 11, 50, 40), ("cat", 61, 31, 80, 50)], jpeg(copy, 70), (120, 80))
    assert found(folder.dataset()) == [("similar", WARNING, "val", "v1.jpg", None)]


def test_a_turned_image_says_so(folder, noise, jpeg):
    folder.add("t0", [("dog", 11, 11, 50, 40)], jpeg(noise(9, (64, 96))))
    finding = next(iter(examine(Gate(folder.dataset, "refuse"), SPLITS, TARGET, 100).findings))
    assert "width and height are swapped" in finding.what


def test_all_problems_of_all_files_at_once_and_sound_boxes_still_count(folder):
    for harm in (break_xml, outside, leak):
        harm(folder)
    folder.objects("t1", [("dog", 80, 11, 50, 40), ("cow", 1, 1, 9, 9), ("cat", 61, 31, 80, 50)])
    truncated = folder.image("t2")
    truncated.write_bytes(truncated.read_bytes()[:-300])
    examination = examine(Gate(folder.dataset, "refuse"), SPLITS, TARGET, 100)
    kinds = [(kind, number) for kind, _, number in examination.findings.kinds()]
    assert kinds == [("unreadable_image", 1), ("class", 1), ("swapped", 1), ("out_of_range", 1), ("leak", 1)]
    assert examination.counts["train"]["boxes"] == 2 + 1 + 2 + 2  # t0 with a cut one, t1 without two, t2, t3


def test_options_of_the_dataset_decide_what_is_an_error(folder):
    outside(folder)
    for option in ("clip", "drop"):
        assert found(folder.dataset(out_of_range=option)) == [("out_of_range", WARNING, "train", "t0.xml", 2)]


def test_problems_in_reading_class_names_are_told_once_with_their_split(folder):
    break_xml(folder)
    assert found(folder.dataset(classes=None)) == [("unusable", ERROR, "train", "t0.xml", None)]


def test_nothing_at_all_is_the_error_of_the_dataset(folder):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        examine(Gate(lambda: folder.dataset(root="nowhere"), "refuse"), SPLITS, TARGET, 100)
    for file in (folder.root / "Annotations").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="no image of any split can be used; .*t0.xml"):
        examine(Gate(folder.dataset, "refuse"), SPLITS, TARGET, 100)


def test_a_class_of_ones_own_that_knows_nothing_of_the_doctor(folder):
    class Mine(Dataset):
        classes = ("a", "b")

        def split(self, name: str) -> list[Sample]:
            if name != "train":
                raise UserError(f"no {name}")
            rows = [[0, 5, 5, 40, 40, 0], [7, 5, 5, 40, 40, 0], [1, 5, 5, 400, 40, 0], [1, np.nan, 5, 40, 40, 0]]
            return [
                Sample(f"{number}", folder.image(f"t{number}"), 96, 64, np.array([row], np.float32))
                for number, row in enumerate(rows)
            ]

    examination = examine(Gate(Mine, "refuse"), SPLITS, TARGET, 100)
    message = [(f.kind, f.file.rpartition("/")[2]) for f in examination.findings]
    assert message == [
        ("split", ""),
        ("object", "t3.jpg"),
        ("class", "t1.jpg"),
        ("out_of_range", "t2.jpg"),
        ("classes", ""),
    ]
    assert examination.counts["train"]["boxes"] == 1
