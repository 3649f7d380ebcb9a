import numpy as np
import pytest

from ssd.data import yolo_text
from ssd.data.yolo import YOLO
from ssd.errors import UserError


@pytest.fixture
def put(tmp_path, jpeg):
    """put("images/train/a.jpg", "labels/train/a.txt") writes a picture of 60x40 and its text."""

    def write(picture: str, label: str | None = None, text: str = "1 0.5 0.5 0.5 0.25\n"):
        for name, data in ((picture, jpeg(60, 40)), (label, text.encode())):
            if name:
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        return tmp_path

    return write


def dataset(root, **options) -> YOLO:
    defaults = {
        "root": str(root),
        "names": ["cat", "dog"],
        "classes": None,
        "splits": {"train": None, "val": None, "test": None},
        "labels": None,
        "out_of_range": "error",
        "holdout": {"val": 0.5, "test": 0.0, "seed": 0},
    }
    return YOLO(**{**defaults, **options})


def ids(yolo: YOLO, split: str) -> list[str]:
    return [sample.id for sample in yolo.split(split)]


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("images/train", "images/val"),
        ("train/images", "valid/images"),
        ("train", "val"),
    ],
)
def test_the_usual_layouts(put, train, val):
    for folder, name in ((train, "a"), (train, "b"), (val, "c")):
        root = put(f"{folder}/{name}.jpg", f"{folder.replace('images', 'labels')}/{name}.txt")
    yolo = dataset(root)
    assert yolo.available == ("train", "val")
    assert (ids(yolo, "train"), ids(yolo, "val"), ids(yolo, "test")) == (["a", "b"], ["c"], ["c"])
    np.testing.assert_allclose(yolo.split("train")[0].boxes, [[1, 15, 15, 45, 25, 0]], atol=1e-5)


def test_one_folder_is_split(put):
    for number in range(10):
        root = put(f"images/{number}.jpg", f"labels/{number}.txt")
    parts = [ids(dataset(root), split) for split in ("train", "val")]
    assert [len(part) for part in parts] == [5, 5]
    assert sorted(parts[0] + parts[1]) == [str(number) for number in range(10)]


def test_texts_beside_the_pictures_or_in_a_folder_of_their_own(put):
    root = put("shots/a.jpg", "shots/a.txt")
    put("shots/deep/b.jpg", "boxes/deep/b.txt")
    keys = {"splits": {"train": "shots", "val": "shots", "test": None}}
    assert [len(sample.boxes) for sample in dataset(root, **keys).split("train")] == [1, 0]
    put("images/deep/c.jpg", "boxes/deep/c.txt")
    keys = {"splits": {"train": ["images"], "val": "images", "test": None}, "labels": "boxes"}
    assert [len(sample.boxes) for sample in dataset(root, **keys).split("train")] == [1]


def test_a_picture_without_a_text_shows_nothing(put):
    put("images/train/a.jpg")
    root = put("images/train/b.jpg", "labels/train/b.txt", "\n")
    put("images/val/c.jpg")
    assert [sample.boxes.shape for sample in dataset(root).split("train")] == [(0, 6), (0, 6)]


def test_lists_of_pictures(put):
    for name in "abc":
        root = put(f"images/{name}.jpg", f"labels/{name}.txt")
    (root / "train.txt").write_text("./images/a.jpg\nimages/b.jpg\n\n")
    (root / "val.txt").write_text(f"{root}/images/c.jpg\n")
    yolo = dataset(root, splits={"train": "train.txt", "val": "val.txt", "test": None})
    assert (ids(yolo, "train"), ids(yolo, "val")) == (["a", "b"], ["c"])
    assert len(yolo.split("val")[0].boxes) == 1


def test_data_yaml(put):
    put("train/images/a.jpg", "train/labels/a.txt")
    root = put("valid/images/b.jpg", "valid/labels/b.txt")
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['cow', 'pig']\n"
    (root / "data.yaml").write_text(text)
    for place in (root, root / "data.yaml"):
        yolo = dataset(place, names=None)
        assert yolo.classes == ("cow", "pig")
        assert (ids(yolo, "train"), ids(yolo, "val"), yolo.available) == (["a"], ["b"], ("train", "val"))
    (root / "data.yaml").write_text(
        "path: elsewhere\ntrain: train/images\nval: valid/images\nnames: {0: cow, 1: pig}\n"
    )
    assert ids(dataset(root, names=None), "val") == ["b"]
    assert dataset(root, names=None).names == ("cow", "pig")


def test_names(put):
    root = put("images/a.jpg", "labels/a.txt")
    put("images/b.jpg")
    (root / "my.names").write_text("owl\nfox\n\n")
    assert dataset(root, names="my.names").classes == ("owl", "fox")
    assert dataset(root, names=str(root / "my.names")).classes == ("owl", "fox")
    with pytest.raises(UserError, match="says nothing of its classes; give dataset.names"):
        dataset(root, names=None).split("train")
    (root / "classes.txt").write_text("elk\nyak\n")
    assert dataset(root, names=None).classes == ("elk", "yak")
    reordered = dataset(root, names=None, classes=["yak", "elk"], holdout={"val": 0, "test": 0, "seed": 0})
    assert reordered.split("train")[0].boxes[:, 0].tolist() == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.5", "a.txt: line 1, '0 0.5 0.5 0.5', must be: class cx cy width height"),
        ("0 .5 .5 .5 .5\n1.5 .5 .5 .1 .1", "line 2"),
        ("-1 .5 .5 .5 .5", "line 1"),
        ("0 nan .5 .5 .5", "line 1"),
        ("x .5 .5 .5 .5", "line 1"),
        ("1e999 .5 .5 .5 .5", "line 1"),
        ("0 30 20 10 10", "must be shares 0..1 of the picture"),
        ("0 .9 .5 .5 .5", "leaves the image of 60x40"),
        ("2 .5 .5 .5 .5", "class 2 has no name, there are 2"),
        ("\0", "binary data"),
    ],
)
def test_bad_lines(put, text, message):
    root = put("images/train/a.jpg", "labels/train/a.txt", text)
    put("images/val/b.jpg")
    with pytest.raises(UserError) as error:
        dataset(root).split("train")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_not_there(put, tmp_path):
    root = put("images/train/a.jpg")
    with pytest.raises(UserError, match="no such folder; it must hold pictures"):
        dataset(tmp_path / "nowhere").split("train")
    with pytest.raises(UserError, match="pictures/train: no such folder or file, the train split"):
        dataset(root, splits={"train": "pictures/train"}).split("train")
    (root / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no pictures for the train split"):
        dataset(root, splits={"train": "empty", "val": "empty"}).split("train")
    (root / "images/train/z.jpg").write_bytes(b"<html>")
    with pytest.raises(UserError, match="z.jpg: the image file is no JPEG"):
        dataset(root, holdout={"val": 0, "test": 0, "seed": 0}).split("train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a, a]", "names must be different"),
        ("names: {0: a, 2: b}", "numbered 0, 1, 2"),
        ("names: 3", "names must be a list"),
        ("- a", "must hold keys"),
        ("a: [", "not YAML"),
        ("!!python/object/apply:os.system ['echo']", "not YAML"),
    ],
)
def test_bad_descriptions(put, text, message):
    root = put("images/train/a.jpg")
    (root / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        _ = dataset(root, names=None).names


def test_writing():
    boxes = np.array([[1, 15, 15, 45, 25, 0]], np.float32)
    assert yolo_text.write(boxes, (60, 40)) == "1 0.500000000 0.500000000 0.500000000 0.250000000\n"
    assert yolo_text.write(np.zeros((0, 6)), (60, 40)) == ""
