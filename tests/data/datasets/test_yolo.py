import os
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from ssd.data.coverage import BROKEN_LINKS, HIDDEN, NO_SPLIT, SAME_FILE, SECOND_LABELS, TOOL_COPIES, Coverage
from ssd.data.datasets import yolo_text
from ssd.data.datasets.yolo import YOLO
from ssd.utils.errors import UserError


@pytest.fixture
def put(tmp_path, jpeg):
    """put("images/train/a.jpg", "labels/train/a.txt") writes an image of 60x40 and its text."""

    def write(image: str, label: str | None = None, text: str = "1 0.5 0.5 0.5 0.25\n"):
        for name, data in ((image, jpeg(60, 40, seed=crc32(image.encode()))), (label, text.encode())):
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


def test_texts_beside_the_images_or_in_a_folder_of_their_own(put):
    root = put("shots/a.jpg", "shots/a.txt")
    put("shots/deep/b.jpg", "boxes/deep/b.txt")
    keys = {"splits": {"train": "shots", "val": "shots", "test": None}}
    assert [len(sample.boxes) for sample in dataset(root, **keys).split("train")] == [1, 0]
    put("images/deep/c.jpg", "boxes/deep/c.txt")
    keys = {"splits": {"train": ["images"], "val": "images", "test": None}, "labels": "boxes"}
    assert [len(sample.boxes) for sample in dataset(root, **keys).split("train")] == [1]


def test_a_image_without_a_text_shows_nothing(put):
    put("images/train/a.jpg")
    root = put("images/train/b.jpg", "labels/train/b.txt", "\n")
    put("images/val/c.jpg")
    assert [sample.boxes.shape for sample in dataset(root).split("train")] == [(0, 6), (0, 6)]


def test_lists_of_images(put):
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
        ("0 30 20 10 10", "must be shares 0..1 of the image"),
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
    with pytest.raises(UserError, match="no such folder; it must hold images"):
        dataset(tmp_path / "nowhere").split("train")
    with pytest.raises(UserError, match="photos/train: no such folder or file, the train split"):
        dataset(root, splits={"train": "photos/train"}).split("train")
    (root / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no images for the train split"):
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
        ("a: [", "cannot be read as YAML: line 2: did not find expected node content"),
        ("!!python/object/apply:os.system ['echo']", "cannot be read as YAML: line 1: tag .* is not read"),
        ("path: /", "path / is no folder of a dataset"),
        ("train: /proc/self", "train /proc/self is no folder of a dataset"),
        ("val: [../../../../../../../..]", "val .* is no folder of a dataset"),
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


ROW = "1 0.5 0.5 0.5 0.25\n"


@pytest.fixture
def tree(tmp_path, jpeg):
    """tree("images/train/a.jpg labels/train/a.txt") writes images of 60x40 and label files of one object."""

    def write(*names: str) -> Path:
        for name in " ".join(names).split():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            is_text = path.suffix.lower() == ".txt"
            path.write_bytes(ROW.encode() if is_text else jpeg(60, 40, seed=sum(map(ord, name))))
        return tmp_path

    return write


NO_HOLDOUT = {"holdout": {"val": 0, "test": 0, "seed": 0}}
TRAIN_ALONE = {"splits": {"train": ["images"]}, **NO_HOLDOUT}


def message_of(yolo: YOLO, split: str = "train") -> str:
    with pytest.raises(UserError) as error:
        yolo.split(split)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/a.jpg", "images/train/a.txt"),  # LabelImg, Yolo_mark
        ("images/train/a.jpg", "labels/train/a.jpg.txt"),
        ("images/train/a.jpg", "labels/train/a.TXT"),
        ("images/train/a.jpg", "labels/train/a.Txt"),
        ("images/train/a.jpg", "labels/train/A.txt"),
        ("images/train/IMG_1.JPG", "labels/train/img_1.txt"),
        ("images/train/a.jpg", "labels/train/A.JPG.TXT"),
        ("images/train/a.b.jpg", "labels/train/a.b.txt"),
        ("images/Train/a.jpg", "labels/train/a.txt"),
        ("Images/train/a.jpg", "Labels/train/a.txt"),
        ("img/train/a.jpg", "labels/train/a.txt"),
        ("JPEGImages/train/a.jpg", "labels/train/a.txt"),
        ("images/train/cam1/a.jpg", "labels/train/cam1/a.txt"),
        ("images/train/cam1/a.jpg", "images/train/cam1/a.txt"),
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("images/train/images/a.jpg", "images/train/labels/a.txt"),
        ("images/train/images/a.jpg", "labels/train/images/a.txt"),
        ("train/images/a.jpg", "train/images/a.txt"),
        ("train/a.jpg", "train/a.txt"),
        ("train/a.jpg", "train/labels/a.txt"),
        ("train/a.jpg", "labels/train/a.txt"),
        ("images/train/e\u0301.jpg", "labels/train/\u00e9.txt"),  # macOS takes accents apart
    ],
)
def test_labels_are_found(tree, image, label):
    yolo = dataset(tree(image, label), **NO_HOLDOUT)
    (sample,) = yolo.split("train")
    assert len(sample.boxes) == 1
    assert yolo.coverage("train") == Coverage()


def test_labels_of_another_case_may_be_those_of_another_image(tree):
    yolo = dataset(tree("images/train/a.jpg images/train/A.jpg labels/train/A.txt"), **NO_HOLDOUT)
    assert {sample.id: len(sample.boxes) for sample in yolo.split("train")} == {"A": 1, "a": 0}
    assert yolo.coverage("train").unlabeled == ("images/train/a.jpg",)


def test_labels_that_several_files_may_hold(tree):
    root = tree("images/train/a.jpg labels/train/A.txt labels/train/A.TXT")
    assert message_of(dataset(root, **NO_HOLDOUT)) == (
        f"{root}/images/train/a.jpg: its labels may be A.TXT or A.txt in {root}/labels/train; keep one of them as a.txt"
    )


def test_images_without_labels_are_named_with_where_they_were_looked_for(tree):
    yolo = dataset(
        tree("images/train/a.jpg images/train/b.jpg labels/train/b.txt labels/train/c.txt", "images/val/d.jpg")
    )
    assert len(yolo.split("train")) == 2
    searched = ("labels/train/a.txt", "images/train/a.txt")
    assert yolo.coverage("train") == Coverage(("images/train/a.jpg",), ("labels/train/c.txt",), searched)
    assert yolo.coverage("val").unlabeled == ("images/val/d.jpg",)
    assert yolo.coverage("test") == yolo.coverage("val")
    yolo = dataset(tree("images/train/e.jpg"), labels="labels/train", **NO_HOLDOUT)
    assert yolo.coverage("train").searched == ("labels/train/train/a.txt", "labels/train/a.txt")


def test_images_without_labels_are_named_in_the_part_that_has_them(tree):
    root = tree(*(f"images/{name}.jpg" for name in "abcdef"))
    yolo = dataset(root)
    parts = [yolo.coverage(split).unlabeled for split in ("train", "val")]
    assert [len(part) for part in parts] == [3, 3]
    assert sorted(parts[0] + parts[1]) == [f"images/{name}.jpg" for name in "abcdef"]
    assert parts[1] == tuple(f"images/{sample.id}.jpg" for sample in yolo.split("val"))


def test_only_label_files_can_be_orphans(tree):
    root = tree("images/train/a.jpg labels/train/a.txt labels/train/gone/b.txt labels/train/c.TXT",
                "labels/train/README.txt labels/train/.d.txt labels/train/classes.txt labels/classes.txt")  # fmt: skip
    (root / "labels/train/notes.txt").write_text("these were drawn by hand\n")
    (root / "labels/train/empty.txt").write_text("")
    orphans = ("labels/train/c.TXT", "labels/train/empty.txt", "labels/train/gone/b.txt")
    assert dataset(root, **NO_HOLDOUT).coverage("train").orphans == orphans
    root = tree("other/shots/a.jpg other/shots/a.txt other/shots/b.txt") / "other"
    (root / "shots/list.txt").write_text("a.jpg\n")
    yolo = dataset(root, splits={"train": "shots"}, **NO_HOLDOUT)
    assert yolo.coverage("train").orphans == ("shots/b.txt",)


def test_folders_of_labels_without_images(tree):
    root = tree("images/train/a.jpg labels/train/a.txt labels/train/gone/b.txt labels/test/c.txt images/val/d.jpg",
                "labels/val/d.txt labels/other/e.txt images/other/e.jpg labels/other/f.txt")  # fmt: skip
    yolo = dataset(root, splits={"train": "images/train", "val": "images/val"})
    orphans = ("labels/other/f.txt", "labels/test/c.txt", "labels/train/gone/b.txt")
    assert (yolo.coverage("train").orphans, yolo.coverage("val").orphans) == (orphans, ())
    (root / "train.txt").write_text("images/train/a.jpg\n")
    (root / "val.txt").write_text("images/val/d.jpg\n")
    yolo = dataset(root, splits={"train": "train.txt", "val": "val.txt"})
    assert (yolo.coverage("train").orphans, yolo.coverage("val").orphans) == (orphans, ())
    yolo = dataset(root, splits={"train": "images/train", "val": "images/val"}, labels="labels")
    assert (yolo.coverage("train").orphans, yolo.coverage("val").orphans) == (orphans, ())


def test_labels_of_images_that_no_split_has_are_no_orphans(tree):
    root = tree("images/a.jpg labels/a.txt images/b.jpg labels/b.txt labels/c.txt")
    (root / "some.txt").write_text("images/a.jpg\n")
    assert dataset(root, splits={"train": "some.txt"}, **NO_HOLDOUT).coverage("train").orphans == ("labels/c.txt",)


def test_labels_in_both_places(tree):
    root = tree("images/train/a.jpg labels/train/a.txt images/train/a.txt labels/train/a.jpg.txt")
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.25\n0 0.2 0.2 0.1 0.1\n")
    yolo = dataset(root, **NO_HOLDOUT)
    assert len(yolo.split("train")[0].boxes) == 2
    assert yolo.coverage("train").skipped == {SECOND_LABELS: ("images/train/a.txt", "labels/train/a.jpg.txt")}


@pytest.mark.parametrize("beside", ["labels/train/a.txt", "images/train/a.txt"])
def test_two_images_with_one_label_file(tree, beside):
    root = tree("images/train/a.jpg images/train/a.png", beside)
    message = message_of(dataset(root, **NO_HOLDOUT))
    assert message.startswith(f"{root}/images/train/a.png: shares its labels {root / beside} with ")
    assert message.endswith("a.jpg; give each image its own (rename one of the two, or name the labels a.png.txt)")
    yolo = dataset(tree(beside.replace("a.txt", "a.jpg.txt"), beside.replace("a.txt", "a.png.txt")), **NO_HOLDOUT)
    assert [(sample.id, len(sample.boxes)) for sample in yolo.split("train")] == [
        ("images/train/a.jpg", 1),
        ("images/train/a.png", 1),
    ]


def test_two_splits_with_one_label_file(tree):
    root = tree("images/train/a.jpg images/val/a.jpg boxes/a.txt")
    yolo = dataset(root, labels="boxes")
    assert len(yolo.split("train")) == 1
    assert "val/a.jpg: shares its labels" in message_of(yolo, "val")
    (root / "images/val/a.jpg").unlink()
    (root / "images/val/a.jpg").symlink_to("../train/a.jpg")
    assert [len(dataset(root, labels="boxes").split(split)[0].boxes) for split in ("train", "val")] == [1, 1]


LAYOUTS = [  # folder of train, of val
    ("images/train2017", "images/val2017"),
    ("images/training", "images/validation"),
    ("images/Train", "images/Valid"),
    ("Train/images", "Valid/images"),
    ("training", "validation"),
    ("obj_train_data", "obj_valid_data"),
    ("obj_Train_data", "obj_Validation_data"),
    ("data/../images/train_set", "images/val_set"),
    ("img/train", "img/dev"),
    ("images/train", "val/images"),
]


@pytest.mark.parametrize(("train", "val"), LAYOUTS)
def test_names_of_splits(tree, train, val):
    root = tree(f"{train}/a.jpg {train}/b.jpg {val}/c.jpg")
    yolo = dataset(root)
    assert (yolo.available, ids(yolo, "train"), ids(yolo, "val")) == (("train", "val"), ["a", "b"], ["c"])


UNKNOWN = [
    ("images/cam1/a.jpg images/cam2/b.jpg", "images/cam1, images/cam2", "[images/cam1,images/cam2]"),
    ("images/train/a.jpg images/holdout/b.jpg", "images/holdout (beside images/train)", "[images/train]"),
    ("images/a.jpg images/eval/b.jpg", "images/eval", "[images/eval]"),
    ("images/train1/a.jpg images/train2/b.jpg", "images/train1, images/train2", "[images/train1,images/train2]"),
    ("images/trainval/a.jpg images/test/b.jpg", "images/trainval (beside images/test)", "[images/trainval]"),
    ("day1/a.jpg day2/images/b.jpg", "day1, day2", "[day1,day2]"),
    ("val/a.jpg rest/b.jpg", "rest (beside val)", "[rest]"),
]


@pytest.mark.parametrize(("names", "folders", "override"), UNKNOWN)
def test_folders_of_other_names_are_never_trained_on(tree, names, folders, override):
    root = tree(names)
    assert message_of(dataset(root)) == (
        f"{root}: the folders of images {folders} are not named after a split (train, val, test); say which are to "
        f"train on: 'dataset.splits.train={override}', and with dataset.splits.val which to validate on (without it "
        "a part of train is held out)"
    )
    splits = {"train": override[1:-1].split(",")}
    assert dataset(root, splits=splits, **NO_HOLDOUT).split("train")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("images/a.jpg images/val/b.jpg", "images lie beside images/val, which are named after splits; move those"),
        ("a.jpg val/b.jpg", "images lie beside val, which are named after splits; move those to train on into train"),
        ("images/val/a.jpg images/valid/b.jpg", "images/val and images/valid all are named after the val split"),
        ("images/train/a.jpg train/b.jpg", "images/train and train hold different images, and both are named after"),
        (
            "images/train/day1/val/b.jpg",
            "images/train/day1/val lies in images/train, the train split, and is named after",
        ),
        ("images/val/b.jpg", "has no train images in any usual place"),
        ("README", "has no train images in any usual place"),
    ],
)
def test_splits_that_cannot_be_told_apart(tree, names, message):
    assert message in message_of(dataset(tree(names), holdout={"val": 0.2, "test": 0, "seed": 0}))


def test_folders_beside_the_splits_are_named(tree):
    root = tree("train/a.jpg val/b.jpg unsorted/c.jpg")
    assert dataset(root).coverage("train").skipped == {NO_SPLIT: ("unsorted",)}
    assert dataset(root).coverage("val").skipped == {}
    root = tree("kit/images/train/a.jpg kit/images/val/b.jpg kit/images/stray.jpg kit/new/c.jpg kit/d.jpg") / "kit"
    assert dataset(root).coverage("train").skipped == {NO_SPLIT: ("d.jpg", "images/stray.jpg", "new")}


def test_lists_in_the_root(tree):
    root = tree(*(f"images/{name}.jpg labels/{name}.txt" for name in "abcd"))
    (root / "train.txt").write_text("images/a.jpg\nimages/b.jpg\n")
    (root / "valid.txt").write_text("images/c.jpg\n")
    yolo = dataset(root)
    assert (ids(yolo, "train"), ids(yolo, "val")) == (["a", "b"], ["c"])
    assert yolo.coverage("train").skipped == {NO_SPLIT: ("images/d.jpg",)}
    assert len(yolo.split("train")[0].boxes) == 1


def test_an_image_that_is_called_train(tree):
    root = tree("train.jpg train.txt b.jpg b.txt")
    assert ids(dataset(root, **NO_HOLDOUT), "train") == ["b", "train"]


@pytest.mark.parametrize("start", ["data/", "/home/me/set/", "C:\\\\me\\\\"])
def test_cvat(tree, start):
    root = tree("obj_train_data/a.jpg obj_train_data/a.txt obj_valid_data/b.jpg obj_valid_data/b.txt")
    (root / "train.txt").write_text(f"{start}obj_train_data/a.jpg\n")
    (root / "valid.txt").write_text(f"{start}obj_valid_data/b.jpg\n")
    (root / "obj.names").write_text("cat\ndog\n")
    (root / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    yolo = dataset(root, names=None)
    assert yolo.classes == ("cat", "dog")
    assert [(item.id, len(item.boxes)) for split in ("train", "val") for item in yolo.split(split)] == [
        ("a", 1),
        ("b", 1),
    ]
    yolo = dataset(root, splits={"train": "train.txt", "val": "valid.txt"})
    assert (ids(yolo, "train"), ids(yolo, "val")) == (["a"], ["b"])
    assert [len(yolo.split(split)[0].boxes) for split in ("train", "val")] == [1, 1]


def test_lists_against_folders(tree):
    root = tree("images/train/a.jpg images/train/b.jpg")
    (root / "train.txt").write_text("images/train/a.jpg\n")
    assert "images/train and train.txt hold different images" in message_of(dataset(root, **NO_HOLDOUT))
    (root / "train.txt").write_text("/elsewhere/x.jpg\n")
    yolo = dataset(root, **NO_HOLDOUT)
    assert ids(yolo, "train") == ["a", "b"]
    assert yolo.coverage("train").skipped == {NO_SPLIT: ("train.txt",)}


@pytest.mark.parametrize("key", ["val", "valid", "validation"])
def test_the_validation_split_of_a_description(tree, key):
    root = tree("images/x/a.jpg images/y/b.jpg")
    (root / "data.yaml").write_text(f"train: images/x\n{key}: images/y\nnames: [cat, dog]\n")
    assert ids(dataset(root, names=None), "val") == ["b"]


@pytest.mark.parametrize("place", ["images", "images/train", "labels", "labels/train", "."])
def test_names_beside_the_images_or_labels(tree, place):
    root = tree("images/train/a.jpg images/train/a.txt images/val/b.jpg labels/val/b.txt labels/train/c.txt")
    (root / place / "classes.txt").write_text("elk\nyak\n")
    assert dataset(root, names=None).classes == ("elk", "yak")
    (root / "images/val/classes.txt").write_text("elk\nfox\n")
    if place == ".":
        assert dataset(root, names=None).classes == ("elk", "yak")
    else:
        message = message_of(dataset(root, names=None))
        assert message.endswith("classes.txt hold different names; dataset.names=file says which to read")


def test_a_root_that_is_the_folder_of_images(tree):
    root = tree("images/train/a.jpg images/val/b.jpg labels/train/a.txt labels/val/b.txt")
    (root / "classes.txt").write_text("cat\ndog\n")
    yolo = dataset(root / "images", names=None)
    assert [len(yolo.split(split)[0].boxes) for split in ("train", "val")] == [1, 1]
    explicit = dataset(root / "images", splits={"train": "train", "val": "val"})
    assert [len(explicit.split(split)[0].boxes) for split in ("train", "val")] == [1, 1]
    deep = dataset(root / "images/train", **NO_HOLDOUT)
    assert [len(sample.boxes) for sample in deep.split("train")] == [1]
    assert deep.coverage("train") == Coverage()


def test_a_root_in_the_working_directory(tree, monkeypatch):
    monkeypatch.chdir(tree("data/images/train/a.jpg data/labels/train/b.txt data/images/train/.c.jpg"))
    for root in ("data", "./data", "data/images"):
        coverage = dataset(root, **NO_HOLDOUT).coverage("train")
        assert [Path(name).name for name in coverage.unlabeled + coverage.orphans] == ["a.jpg", "b.txt"]
    assert dataset("data", **NO_HOLDOUT).coverage("train") == Coverage(
        ("images/train/a.jpg",),
        ("labels/train/b.txt",),
        ("labels/train/a.txt", "images/train/a.txt"),
        {HIDDEN: ("images/train/.c.jpg",)},
    )


def test_hidden_files_and_copies_of_tools(tree):
    root = tree("images/train/a.jpg images/train/@eaDir/a.jpg/SYNO.jpg",
                "images/train/.ipynb_checkpoints/a-checkpoint.jpg images/train/._a.jpg",
                "images/train/.b.jpg labels/train/._a.txt labels/train/a.txt")  # fmt: skip
    yolo = dataset(root, **NO_HOLDOUT)
    assert ids(yolo, "train") == ["a"]
    copies = (
        *("images/train/._a.jpg", "images/train/.ipynb_checkpoints", "images/train/@eaDir"),
        "labels/train/._a.txt",
    )
    assert yolo.coverage("train") == Coverage(skipped={TOOL_COPIES: copies, HIDDEN: ("images/train/.b.jpg",)})
    (root / "all.txt").write_text("images/train/a.jpg\nimages/train/._a.jpg\n./images/train/@eaDir/a.jpg/SYNO.jpg\n")
    listed = dataset(root, splits={"train": "all.txt"}, **NO_HOLDOUT)
    assert ids(listed, "train") == ["a"]
    assert len(listed.coverage("train").skipped[TOOL_COPIES]) == 3


def test_links(tree):
    root = tree("images/train/a.jpg labels/train/a.txt store/images/b.jpg store/labels/b.txt")
    (root / "images/train/cam1").symlink_to("../../store/images")
    (root / "labels/train/cam1").symlink_to("../../store/labels")
    (root / "images/train/c.jpg").symlink_to("/no/such/file.jpg")
    yolo = dataset(root, **NO_HOLDOUT)
    assert [(sample.id, len(sample.boxes)) for sample in yolo.split("train")] == [("a", 1), ("b", 1)]
    assert yolo.coverage("train") == Coverage(skipped={BROKEN_LINKS: ("images/train/c.jpg",)})


def test_one_file_under_several_spellings_counts_once(tree, monkeypatch):
    root = tree("images/train/a.jpg labels/train/a.txt images/train/b.jpg")
    (root / "images/train/z.jpg").symlink_to("a.jpg")
    (root / "images/train/again").symlink_to(root / "images/train")  # leads in a circle
    yolo = dataset(root, **NO_HOLDOUT)
    assert ids(yolo, "train") == ["a", "b"]
    assert yolo.coverage("train").skipped[SAME_FILE] == ("images/train/z.jpg",)
    monkeypatch.chdir(root)
    lines = ["images/train/a.jpg", "./images/train/a.jpg", f"{root}/images/train/a.jpg", "images/../images/train/a.jpg",
             "images/train/z.jpg", "images/train/a.jpg"]  # fmt: skip
    (root / "list.txt").write_text("\n".join(lines))
    yolo = dataset(root, splits={"train": "list.txt"}, **NO_HOLDOUT)
    assert [len(sample.boxes) for sample in yolo.split("train")] == [1]
    assert "images/train/a.jpg" in yolo.coverage("train").skipped[SAME_FILE]
    yolo = dataset(root, splits={"train": ["images/train", "images/train"]}, **NO_HOLDOUT)
    assert len(yolo.split("train")) == 2


def test_one_file_with_two_label_files(tree):
    root = tree("images/train/a.jpg labels/train/b.txt")
    (root / "images/train/b.jpg").symlink_to("a.jpg")
    assert [(item.path.name, len(item.boxes)) for item in dataset(root, **NO_HOLDOUT).split("train")] == [("b.jpg", 1)]
    tree("labels/train/a.txt")
    assert len(dataset(root, **NO_HOLDOUT).split("train")) == 1
    (root / "labels/train/b.txt").write_text("")
    message = message_of(dataset(root, **NO_HOLDOUT))
    assert "a.jpg and" in message
    assert "b.jpg are one file with different labels" in message


def test_ids_of_images_in_folders(tree):
    root = tree("images/cam1/a.jpg images/cam2/a.jpg images/cam2/deep/b.jpg")
    assert ids(dataset(root, **TRAIN_ALONE), "train") == ["images/cam1/a", "images/cam2/a", "b"]
    yolo = dataset(root, splits={"train": ["images/cam1", "images/cam2"]}, **NO_HOLDOUT)
    assert ids(yolo, "train") == ["images/cam1/a", "images/cam2/a", "b"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "gbk"])
def test_encodings_of_lists_and_labels(tree, encoding):
    root = tree("images/圆形.jpg labels/圆形.txt")
    (root / "list.txt").write_bytes(b"\xff\xfe" * (encoding == "utf-16-le") + "images/圆形.jpg\r\n".encode(encoding))
    (root / "labels/圆形.txt").write_bytes(b"\xff\xfe" * (encoding == "utf-16-le") + ROW.encode(encoding))
    yolo = dataset(root, splits={"train": "list.txt"}, **NO_HOLDOUT)
    if encoding == "gbk":
        assert message_of(yolo).endswith("list.txt: not a list of images (byte 9 is no UTF-8 text); save it as UTF-8")
    else:
        assert len(yolo.split("train")[0].boxes) == 1


def test_a_folder_that_may_not_be_listed(tree):
    root = tree("images/train/a.jpg images/train/deep/b.jpg")
    (root / "images/train/deep").chmod(0)
    try:
        if os.access(root / "images/train/deep", os.R_OK):
            pytest.skip("the superuser may list any folder")
        assert "deep: cannot list the folder: Permission denied" in message_of(dataset(root, **NO_HOLDOUT))
    finally:
        (root / "images/train/deep").chmod(0o755)


WORDS = ["no", "yes", "on", "010", "12:30", "null", "~", "1e3", "0x1f", "1_000", "2020-01-01", "true", "a: b", "é"]


@pytest.mark.parametrize("kind", ["list", "dict", "flow list", "flow dict", "file"])
def test_names_are_the_text_that_is_written(put, kind):
    root = put("images/a.jpg", "labels/a.txt")
    (root / "labels/a.txt").write_text(f"{len(WORDS) - 1} 0.5 0.5 0.2 0.2\n")
    words = [f"'{word}'" if ": " in word else word for word in WORDS]
    texts = {
        "list": "names:\n" + "".join(f"- {word}\n" for word in words),
        "dict": "names:\n" + "".join(f"  {number}: {word}\n" for number, word in enumerate(words)),
        "flow list": f"names: [{', '.join(words)}]\n",
        "flow dict": f"names: {{{', '.join(f'{number}: {word}' for number, word in enumerate(words))}}}\n",
    }
    if kind == "file":
        (root / "classes.txt").write_text("\n".join(WORDS) + "\n\n")
    else:
        (root / "data.yaml").write_text(f"train: images\nval: images\nnc: {len(WORDS)}\n{texts[kind]}")
    yolo = dataset(root, names=None)
    assert yolo.classes == tuple(WORDS)
    assert yolo.split("train")[0].boxes[0, 0] == len(WORDS) - 1


@pytest.mark.parametrize("file", ["classes.txt", "obj.names", "data.yaml"])
def test_a_blank_name_keeps_its_number(put, file):
    root = put("images/a.jpg", "labels/a.txt")
    lines = ["cat", "", "dog"]
    yaml = "train: images\nnames:\n" + "".join(f"- {line}\n" for line in lines)
    (root / file).write_text(yaml if file == "data.yaml" else "cat\n  \ndog\n\n")
    (root / "labels/a.txt").write_text("2 0.5 0.5 0.2 0.2\n")
    yolo = dataset(root, names=None, holdout={"val": 0, "test": 0, "seed": 0})
    assert yolo.classes == ("cat", "dog")
    assert yolo.split("train")[0].boxes[0, 0] == 1
    (root / "labels/a.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    with pytest.raises(UserError, match="a.txt: class 1 has no name: line 2 of the names is blank"):
        dataset(root, names=None, holdout={"val": 0, "test": 0, "seed": 0}).split("train")
