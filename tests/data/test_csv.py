import numpy as np
import pytest

from ssd.data import csv_text
from ssd.data.csv_table import CSV
from ssd.errors import UserError

COLUMNS = {name: name for name in csv_text.COLUMNS}
TEXT = """image,label,xmin,ymin,xmax,ymax,width
a.jpg,dog,10,5,30,20,60
b.jpg,,,,,,60

a.jpg,"big, cat",0.5,0,60,40,60
"""


@pytest.fixture
def folder(tmp_path, jpeg):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(jpeg(60, 40))
    (tmp_path / "train.csv").write_text(TEXT)
    return tmp_path


def dataset(folder, **options) -> CSV:
    defaults = {
        "root": str(folder),
        "classes": None,
        "splits": {"train": "train.csv", "val": "train.csv", "test": None},
        "folder": ".",
        "columns": COLUMNS,
        "header": True,
        "delimiter": ",",
        "units": "pixels",
        "out_of_range": "error",
        "holdout": {"val": 0.5, "test": 0.0, "seed": 0},
    }
    return CSV(**{**defaults, **options})


def test_lines_of_a_picture_are_joined(folder):
    csv = dataset(folder)
    assert csv.classes == ("big, cat", "dog")
    first, second = csv.split("train")
    assert (first.id, first.width, first.height) == ("a", 60, 40)
    np.testing.assert_array_equal(first.boxes, [[1, 10, 5, 30, 20, 0], [0, 0.5, 0, 60, 40, 0]])
    assert (second.id, second.boxes.shape) == ("b", (0, 6))


def test_other_names_no_header_and_shares(folder):
    (folder / "train.csv").write_text("dog;a.jpg;0.5;0.25;1;0.75\n")
    columns = {"image": 1, "label": 0, "xmin": 2, "ymin": 3, "xmax": 4, "ymax": 5}
    csv = dataset(folder, columns=columns, header=False, delimiter=";", units="normalised")
    np.testing.assert_array_equal(csv.split("train")[0].boxes, [[0, 30, 10, 60, 30, 0]])
    (folder / "train.csv").write_text("filename,class,x1,y1,x2,y2\na.jpg,dog,1,2,3,4\n")
    names = dict(zip(csv_text.COLUMNS, ["filename", "class", "x1", "y1", "x2", "y2"], strict=True))
    assert dataset(folder, columns=names).split("val")[0].boxes[0, 1:5].tolist() == [1, 2, 3, 4]


def test_a_split_is_held_out_by_picture(folder):
    csv = dataset(folder, splits={"train": ["train.csv"], "val": None})
    assert sorted(sample.id for split in ("train", "val") for sample in csv.split(split)) == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image,label", "file,label", "the header has no column 'image' but file, label"),
        ("a.jpg,dog,10,5,30,20,60", "a.jpg,dog,10,5", "train.csv: line 2: has 4 columns, 6 are needed"),
        ("a.jpg,dog,10", "a.jpg,dog,ten", "train.csv: line 2: the box 'ten, 5, 30, 20' must be four numbers"),
        ("a.jpg,dog,10", "a.jpg,dog,nan", "must be four numbers"),
        ("a.jpg,dog,10", "a.jpg,dog,1e300", "must be four numbers"),
        ("a.jpg,dog", "a.jpg,", "line 2: has a box but no class"),
        ("a.jpg,dog", ",dog", "line 2: names no image"),
        ("30,20", "80,20", "(10, 5, 80, 20), leaves the image of 60x40"),
        ("a.jpg,dog", "z.jpg,dog", "z.jpg: cannot read the image: No such file"),
        ("dog", '"' + "d" * 200_000, "train.csv: line 2: not CSV"),
    ],
)
def test_bad_lines(folder, old, new, message):
    (folder / "train.csv").write_text(TEXT.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        dataset(folder).split("train")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"image": "image"}}, "dataset.columns must say where"),
        ({"header": False}, "needs positions from 0"),
        ({"units": "percent"}, "dataset.units is 'percent'"),
        ({"delimiter": "||"}, "dataset.delimiter is"),
        ({"splits": {"val": "train.csv"}}, "dataset.splits.train is not set"),
        ({"root": None}, "dataset.root is not set"),
        ({"splits": {"train": "x.csv", "val": "x.csv"}}, "x.csv: cannot read a CSV file"),
        ({"classes": ["dog"]}, "class 'big, cat' is not in dataset.classes"),
    ],
)
def test_wrong_options(folder, options, message):
    with pytest.raises(UserError, match=message):
        dataset(folder, **options).split("train")


def test_a_file_without_boxes_has_no_classes(folder):
    (folder / "train.csv").write_text("image,label,xmin,ymin,xmax,ymax\na.jpg,,,,,\n")
    with pytest.raises(UserError, match="no line of dataset.splits has a class"):
        _ = dataset(folder).classes
