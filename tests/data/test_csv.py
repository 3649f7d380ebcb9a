import numpy as np
import pytest

from ssd.data.coverage import UNLISTED
from ssd.data.datasets import csv_text
from ssd.data.datasets.csv_table import CSV
from ssd.data.inspection.looking import size_problem
from ssd.utils.errors import UserError

TEXT = """image,label,xmin,ymin,xmax,ymax,width
a.jpg,dog,10,5,30,20,60
b.jpg,,,,,,60

a.jpg,"big, cat",0.5,0,60,40,60
"""


@pytest.fixture
def folder(tmp_path, jpeg):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(jpeg(60, 40, seed=ord(name[0])))
    (tmp_path / "train.csv").write_text(TEXT)
    return tmp_path


def dataset(folder, **options) -> CSV:
    defaults = {
        "root": str(folder),
        "classes": None,
        "splits": {"train": "train.csv", "val": "train.csv", "test": None},
        "folder": ".",
        "columns": None,
        "header": True,
        "delimiter": None,
        "units": "pixels",
        "out_of_range": "error",
        "holdout": {"val": 0.5, "test": 0.0, "seed": 0},
    }
    return CSV(**{**defaults, **options})


def test_lines_of_a_image_are_joined(folder):
    csv = dataset(folder)
    assert csv.classes == ("big, cat", "dog")
    first, second = csv.split("train")
    assert (first.id, first.width, first.height) == ("a", 60, 40)
    np.testing.assert_array_equal(first.boxes, [[1, 10, 5, 30, 20, 0], [0, 0.5, 0, 60, 40, 0]])
    assert (second.id, second.boxes.shape) == ("b", (0, 6))


def test_quotes_behind_a_space_are_quotes(folder):
    (folder / "train.csv").write_text('image, label, xmin, ymin, xmax, ymax\na.jpg, "big, cat", 1, 2, 3, 4\n')
    assert dataset(folder).classes == ("big, cat",)


def test_decimal_commas_are_no_numbers(folder):
    (folder / "train.csv").write_text("image;label;xmin;ymin;xmax;ymax\na.jpg;dog;1,5;2;3;4\n")
    with pytest.raises(UserError, match="line 2: the box .* must be four numbers with a decimal point"):
        dataset(folder).split("train")


@pytest.mark.parametrize("units", ["normalized", "normalised"])  # the second as before 0.2
def test_other_names_no_header_and_normalized_corners(folder, units):
    (folder / "train.csv").write_text("dog;a.jpg;0.5;0.25;1;0.75\n")
    columns = {"image": 1, "label": 0, "xmin": 2, "ymin": 3, "xmax": 4, "ymax": 5}
    csv = dataset(folder, columns=columns, header=False, delimiter=";", units=units)
    np.testing.assert_array_equal(csv.split("train")[0].boxes, [[0, 30, 10, 60, 30, 0]])
    (folder / "train.csv").write_text("filename,class,x1,y1,x2,y2\na.jpg,dog,1,2,3,4\n")
    names = dict(zip(csv_text.COLUMNS, ["filename", "class", "x1", "y1", "x2", "y2"], strict=True))
    assert dataset(folder, columns=names).split("val")[0].boxes[0, 1:5].tolist() == [1, 2, 3, 4]


def test_a_split_is_held_out_by_image(folder):
    csv = dataset(folder, splits={"train": ["train.csv"], "val": None})
    assert sorted(sample.id for split in ("train", "val") for sample in csv.split(split)) == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image,label", "what,label", "the header has no column 'image' but what, label"),
        ("label,xmin", "label,x", "the header has no column 'xmin' but image, label, x, ymin"),
        ("a.jpg,dog", "a.jpg,do\x07g", "train.csv: line 2: the class 'do\\x07g' holds a line break or"),
        ("a.jpg,dog,10", "a.jpg,dog,1_0", "must be four numbers"),
        ("a.jpg,dog,10,5,30,20,60", "a.jpg,dog,10,5", "train.csv: line 2: has 4 columns, 6 are needed"),
        ("a.jpg,dog,10", "a.jpg,dog,ten", "train.csv: line 2: the box 'ten, 5, 30, 20' must be four numbers"),
        ("a.jpg,dog,10", "a.jpg,dog,nan", "must be four numbers"),
        ("a.jpg,dog,10", "a.jpg,dog,1e300", "must be four numbers"),
        ("a.jpg,dog", "a.jpg,", "line 2: has a box but no class"),
        ("a.jpg,dog", ",dog", "line 2: names no image"),
        ("30,20", "80,20", "(10, 5, 80, 20), leaves the image of 60x40"),
        ("a.jpg,dog", "z.jpg,dog", "train.csv: line 2 (z.jpg): "),
        ("a.jpg,dog", "z.jpg,dog", "z.jpg: no such image"),
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
        ({"columns": {"images": "image"}}, "dataset.columns.images: there is no such column, only image, label"),
        ({"columns": {"image": "photo"}}, "the header has no column 'photo' but image, label"),
        ({"header": False}, "needs positions from 0"),
        ({"units": "percent"}, "dataset.units=percent"),
        ({"delimiter": "||"}, "dataset.delimiter="),
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


HEADERS = {
    "TensorFlow": "filename,width,height,class,xmin,ymin,xmax,ymax",
    "pandas": "Unnamed: 0,image_path,Class Name,x1,y1,x2,y2",
    "capitals": "Image,Label,XMin,YMin,XMax,YMax",
    "corners from 0": "img,category,x0,y0,x1,y1",
    "sides": "path,label,left,top,right,bottom",
    "names": "file-name,name,x-min,y-min,x-max,y-max",
    "a name and a class": "name,class,xmin,ymin,xmax,ymax",
    "other order": "xmin,xmax,ymin,ymax,class,image_id",
}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", HEADERS)
def test_the_usual_headers_need_no_keys(folder, header, delimiter):
    names = HEADERS[header].split(",")
    values = {"f": "a.jpg", "c": "dog", "x": ["10", "30"], "y": ["5", "20"]}

    def cell(name: str) -> str:
        plain = name.lower().replace(" ", "_").replace("-", "_")
        corners = {"xmin": 10, "x_min": 10, "left": 10, "ymin": 5, "y_min": 5, "top": 5,
                   "xmax": 30, "x_max": 30, "right": 30, "ymax": 20, "y_max": 20, "bottom": 20,
                   "width": 60, "height": 40, "x0": 10, "y0": 5, "x2": 30, "y2": 20,
                   "x1": 30 if "x0" in names else 10, "y1": 20 if "y0" in names else 5}  # fmt: skip
        if plain in corners:
            return str(corners[plain])
        if plain.startswith("unnamed"):
            return "0"
        is_label = plain in ("class", "class_name", "label", "category") or (plain == "name" and "file-name" in names)
        return values["c"] if is_label else values["f"]

    text = "\n".join(delimiter.join(row) for row in (names, [cell(name) for name in names])) + "\n"
    (folder / "train.csv").write_text("\ufeff" + text)
    csv = dataset(folder)
    assert csv.classes == ("dog",)
    np.testing.assert_array_equal(csv.split("train")[0].boxes, [[0, 10, 5, 30, 20, 0]])


def test_a_delimiter_that_does_not_separate_is_named(folder):
    (folder / "train.csv").write_text(TEXT.replace(",", ";"))
    with pytest.raises(UserError, match="but image;label;xmin;.*; dataset.delimiter=';' separates them"):
        dataset(folder, delimiter=",").split("train")


def test_the_size_is_what_the_file_says(folder):
    header = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    (folder / "train.csv").write_text(f"{header}a.jpg,120,80,dog,10,5,100,70\nb.jpg,,,dog,1,2,3,4\nc.jpg,0,0,,,,,\n")
    samples = dataset(folder).split("train")
    assert [(sample.width, sample.height) for sample in samples] == [(120, 80), (60, 40), (60, 40)]
    assert size_problem(samples[0], (60, 40)) == "the image is 60x40 but its annotation says 120x80"
    (folder / "train.csv").write_text(f"{header}a.jpg,60,40,dog,1,2,3,4\na.jpg,40,60,dog,1,2,3,4\n")
    with pytest.raises(UserError, match=r"line 2 \(a.jpg\): the image is 60x40 there and 40x60 in line 3"):
        dataset(folder).split("train")
    (folder / "train.csv").write_text(f"{header}a.jpg,60,tall,dog,1,2,3,4\n")
    with pytest.raises(UserError, match="line 2: width and height, '60, tall', must be the image's in pixels"):
        dataset(folder).split("train")


def test_one_image_in_several_spellings_is_one(folder):
    names = ["a.jpg", "./a.jpg", "sub\\..\\a.jpg", "/photos/a.jpg"]
    lines = [f"{name},dog,{number},0,50,40" for number, name in enumerate(names)]
    (folder / "train.csv").write_text("image,label,xmin,ymin,xmax,ymax\n" + "\n".join(lines))
    (sample,) = dataset(folder).split("train")
    assert sample.boxes[:, 1].tolist() == [0, 1, 2, 3]
    lines[2] = "images/a.jpg,dog,1,2,3,4"  # which is another image than that of photos, wherever it is
    (folder / "train.csv").write_text("image,label,xmin,ymin,xmax,ymax\n" + "\n".join(lines[2:]))
    with pytest.raises(UserError, match=r"'images/a.jpg' and '/photos/a.jpg' \(line 3\) are both .*a.jpg; keep"):
        dataset(folder).split("train")
    (folder / "sub").mkdir()
    (folder / "sub/a.jpg").write_bytes((folder / "a.jpg").read_bytes())
    (folder / "train.csv").write_text("image,label,xmin,ymin,xmax,ymax\na.jpg,dog,1,2,3,4\nsub/a.jpg,dog,1,2,3,4\n")
    assert [sample.id for sample in dataset(folder).split("train")] == ["a", "sub/a"]


def test_images_that_no_line_names_are_named(folder):
    csv = dataset(folder, splits={"train": "train.csv", "val": None})
    assert csv.coverage("train").skipped == {UNLISTED: ("c.jpg",)}
    assert csv.coverage("val").skipped == {}


@pytest.mark.parametrize("name", ["010", "1e3", "yes", "null", "NaN", "12:30", "~", "true", "a/b", " x"])
def test_classes_are_text(folder, name):
    (folder / "train.csv").write_text(f"image,label,xmin,ymin,xmax,ymax\na.jpg,{name},1,2,3,4\n")
    assert dataset(folder).classes == (name.strip(),)
