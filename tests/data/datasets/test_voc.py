import logging

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssd.data.datasets import voc_xml
from ssd.data.datasets.voc_xml import VOCObject
from ssd.utils.errors import UserError

VOC20 = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car",
    "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike",
    "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip


def message_of(action) -> str:
    with pytest.raises(UserError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_samples(voc):
    dataset = voc.dataset()
    assert dataset.classes == ("cat", "dog")
    first, second, third = dataset.split("train")
    assert (first.id, first.width, first.height) == ("a", 60, 40)
    assert first.path == voc.root / "JPEGImages/a.jpg"
    assert first.read() == first.path.read_bytes()
    assert first.boxes.dtype == np.float32
    np.testing.assert_array_equal(first.boxes, [[1, 10, 5, 30, 20, 0], [0, 0, 0, 60, 40, 1]])
    np.testing.assert_array_equal(second.boxes, [[0, 4.5, 5.25, 20, 30, 0]])
    assert third.boxes.shape == (0, 6)


def test_compat_reads_raw_coordinates(voc):
    first = voc.dataset(compat="mxnet_ssd").split("train")[0]
    np.testing.assert_array_equal(first.boxes[0], [1, 11, 6, 30, 20, 0])


def test_given_classes_keep_their_order_and_are_stripped(voc):
    dataset = voc.dataset(classes=["dog ", " bird", "cat"])
    assert dataset.classes == ("dog", "bird", "cat")
    assert dataset.split("train")[0].boxes[:, 0].tolist() == [0, 2]


def test_classes_are_found_in_every_split(voc):
    voc.add("d", [("zebra", 1, 1, 5, 5)])
    voc.sets(test=["d"])
    assert voc.dataset().classes == ("cat", "dog", "zebra")


def test_sets_that_stand_in_for_missing_ones(voc):
    voc.sets(trainval=["b"])
    assert [sample.id for sample in voc.dataset().split("train")] == ["a", "b", "c"]
    assert [sample.id for sample in voc.dataset().split("test")] == ["c"]
    (voc.root / "ImageSets/Main/train.txt").unlink()
    assert [sample.id for sample in voc.dataset().split("train")] == ["b"]
    (voc.root / "ImageSets/Main/val.txt").rename(voc.root / "ImageSets/Main/test.txt")
    assert [sample.id for sample in voc.dataset().split("val")] == ["c"]


def test_devkit(voc):
    voc.root.rename(voc.root.parent / "VOC2007")
    splits = {"train": ["VOC2007/train", "VOC2007/val"], "val": "VOC2007/test|val"}
    dataset = voc.dataset(root=str(voc.root.parent), splits=splits)
    assert [sample.id for sample in dataset.split("train")] == ["a", "b", "c"]
    assert [sample.id for sample in dataset.split("val")] == ["c"]
    assert "dataset.splits.test is not set" in message_of(lambda: dataset.split("test"))


def test_ids_may_carry_blanks_marks_and_suffixes(voc):
    voc.add("my photo", [("cat", 1, 1, 9, 9)])
    (voc.root / "ImageSets/Main/train.txt").write_bytes(b"\xef\xbb\xbf a \r\n\r\nb.jpg\r\nmy photo")
    assert [sample.id for sample in voc.dataset().split("train")] == ["a", "b", "my photo"]


def test_image_by_suffix_or_by_the_name_in_the_xml(voc):
    images = voc.root / "JPEGImages"
    (images / "a.jpg").rename(images / "a.PNG")
    (images / "b.jpg").rename(images / "other.jpg")
    voc.xml("b").write_bytes(voc.xml("b").read_bytes().replace(b"b.jpg", b"C:/photos/other.jpg"))
    assert [sample.path.name for sample in voc.dataset().split("train")] == ["a.PNG", "other.jpg", "c.jpg"]


@pytest.mark.parametrize("size", [b"<width>0</width>", b""])
def test_size_from_the_image_when_the_xml_has_none(voc, size):
    voc.xml("a").write_bytes(voc.xml("a").read_bytes().replace(b"<width>60</width>", size))
    first = voc.dataset().split("train")[0]
    assert (first.width, first.height) == (60, 40)


def test_degenerate_boxes_are_reported_and_dropped(voc, caplog):
    voc.add("a", [("dog", 5, 7, 5, 7), ("dog", 9, 9, 4, 20), ("cat", 5, 5, 20, 20)])
    with caplog.at_level(logging.WARNING):
        first = voc.dataset().split("train")[0]
    np.testing.assert_array_equal(first.boxes, [[0, 4, 4, 20, 20, 0]])
    assert [record.getMessage() for record in caplog.records] == [
        f"dropped: {voc.xml('a')}: object 1, box (5, 7, 5, 7), has no area",
        f"dropped: {voc.xml('a')}: object 2, box (9, 9, 4, 20), has swapped corners",
    ]


def test_out_of_range(voc):
    voc.add("a", [("dog", 5, 5, 70, 20)])
    assert message_of(lambda: voc.dataset().split("train")) == (
        f"{voc.xml('a')}: object 1, box (4, 4, 70, 20), leaves the image of 60x40; "
        "dataset.out_of_range=clip cuts such boxes, dataset.out_of_range=drop leaves them out"
    )
    np.testing.assert_array_equal(voc.dataset(out_of_range="clip").split("train")[0].boxes, [[1, 4, 4, 60, 20, 0]])
    assert voc.dataset(out_of_range="drop").split("train")[0].boxes.shape == (0, 6)
    assert "out_of_range=x" in message_of(lambda: voc.dataset(out_of_range="x").split("train"))


def test_missing_things(voc):
    root, sets = voc.root, voc.root / "ImageSets/Main"
    assert "dataset.root is not set" in message_of(lambda: voc.dataset(root=None).split("train"))
    nowhere = message_of(lambda: voc.dataset(root="/no/where").split("train"))
    assert nowhere == "dataset.root /no/where: no such folder; it must hold Annotations and JPEGImages"
    assert message_of(lambda: voc.dataset(splits={"train": ["all"]}).split("train")) == (
        f"{sets} has no all.txt but train, val: name one of its files, e.g. dataset.splits.train=[trainval]"
    )
    (sets / "train.txt").write_text("\n")
    assert f"{sets}/train.txt: the split is empty" in message_of(lambda: voc.dataset().split("train"))
    for data in (b"\xff\xfe\x00", b"a\0b"):
        (sets / "train.txt").write_bytes(data)
        assert "train.txt: not a list of image ids" in message_of(lambda: voc.dataset().split("train"))
    voc.sets(train=["a", "nowhere"])
    assert f"{voc.xml('nowhere')}: No such file" in message_of(lambda: voc.dataset().split("train"))
    voc.sets(train=["a"])
    (root / "JPEGImages/a.jpg").unlink()
    assert f"{root}/JPEGImages/a.jpg: no such image" in message_of(lambda: voc.dataset().split("train"))
    (root / "Annotations").rename(root / "Notes")
    assert f"{root}/Annotations: no such folder" in message_of(lambda: voc.dataset().split("train"))


def test_neither_set_of_a_pair(voc):
    (voc.root / "ImageSets/Main/val.txt").unlink()
    assert "has no val.txt nor test.txt but train: name one" in message_of(lambda: voc.dataset().split("val"))


def test_class_that_is_not_listed(voc):
    assert message_of(lambda: voc.dataset(classes=["cat", "dogs"]).split("train")) == (
        f"{voc.xml('a')}: object 1: class 'dog' is not in dataset.classes; did you mean 'dogs'? "
        "(dataset.unknown_classes=drop leaves such objects out)"
    )


@pytest.mark.parametrize("classes", [[], ["a", "a "], [" "]])
def test_classes_that_are_no_list_of_names(voc, classes):
    assert "must hold different names" in message_of(lambda: voc.dataset(classes=classes))


def test_classes_of_a_folder_without_any_split(voc):
    for file in (voc.root / "ImageSets/Main").iterdir():
        file.unlink()
    assert "has no train.txt nor trainval.txt but nothing" in message_of(lambda: voc.dataset().classes)


def test_no_object_anywhere(voc):
    voc.sets(train=["c"])
    assert "so there are no classes" in message_of(lambda: voc.dataset().classes)


def test_bad_xml_names_the_file(voc):
    voc.xml("b").write_bytes(b"<annotation>")
    assert message_of(lambda: voc.dataset().split("train")).startswith(f"{voc.xml('b')}: not XML")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.floats(1, 39)] * 2, *[st.floats(0.01, 20)] * 2), max_size=4))
def test_boxes_survive_the_round_trip(voc, boxes):
    written = [("cat", x, y, min(x + w, 60), min(y + h, 40)) for x, y, w, h in boxes]
    voc.add("a", written)
    sample = voc.dataset().split("train")[0]
    back = [VOCObject("cat", (x0 + 1, y0 + 1, x1, y1), 0) for _, x0, y0, x1, y1, _ in sample.boxes.tolist()]
    again = voc_xml.parse(voc_xml.write("a.jpg", 60, 40, back), "a.xml")
    assert len(again.objects) == len(boxes)
    for item, box in zip(again.objects, written, strict=True):
        assert item.box == pytest.approx(box[1:], abs=1e-4)


def test_bccd(shared, voc, caplog):
    root = shared / "data/bccd/BCCD"
    dataset = voc.dataset(root=str(root))
    assert dataset.classes == ("Platelets", "RBC", "WBC")
    counts = {}
    with caplog.at_level(logging.WARNING):
        for split in ("train", "val", "test"):
            samples = dataset.split(split)
            counts[split] = (len(samples), sum(len(sample.boxes) for sample in samples))
    assert counts == {"train": (205, 2804), "val": (87, 1137), "test": (72, 945)}
    dropped = [record.getMessage() for record in caplog.records]
    assert len(dropped) == 2
    assert "BloodImage_00338.xml: object" in "".join(dropped)
    assert "box (181, 329, 181, 329), has no area" in "".join(dropped)


def test_voc2007(shared, voc):
    splits = {"train": ["VOC2007/trainval"], "val": ["VOC2007/test"]}
    root = str(shared / "data/voc2007_mini/VOCdevkit")
    dataset = voc.dataset(root=root, splits=splits)
    assert list(dataset.classes) == VOC20
    samples = dataset.split("train")
    assert len(samples) == 450
    difficult = np.concatenate([sample.boxes[:, 5] for sample in samples])
    assert 0 < difficult.sum() < len(difficult)
    assert samples[0].boxes[:, 1:5].min() >= 0
    image = cv2.imread(str(samples[0].path))
    assert image.shape[:2] == (samples[0].height, samples[0].width)


def test_a_folder_without_sets_is_split(voc):
    for file in (voc.root / "ImageSets/Main").iterdir():
        file.unlink()
    (voc.root / "ImageSets/Main").rmdir()
    dataset = voc.dataset(holdout={"val": 0.34, "test": 0.0, "seed": 0})
    assert dataset.available == ("train", "val")
    assert dataset.classes == ("cat", "dog")
    train, val = dataset.split("train"), dataset.split("val")
    assert (len(train), len(val)) == (2, 1)
    assert sorted(sample.id for sample in train + val) == ["a", "b", "c"]
    assert [sample.id for sample in dataset.split("test")] == [val[0].id]


def test_available_splits(voc):
    assert voc.dataset().available == ("train", "val", "test")
    assert voc.dataset(splits={"train": ["train"], "val": ["none"]}).available == ("train",)
