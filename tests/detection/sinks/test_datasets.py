"""What is written as labels loads again by the datasets of this package, the same boxes in the same images."""

import json
import re

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.config.compose import compose
from ssd.data.datasets.build import make_dataset
from ssd.detection.sinks import Header
from ssd.detection.sinks.datasets import as_boxes, coco_folder, voc_folder, whole_pixels, yolo_folder
from ssd.detection.sources import Frame
from ssd.detection.video import Clip

CLASSES = ["cat", "wild dög", "person"]
FORMATS = {
    "yolo": (yolo_folder, []),
    "voc": (voc_folder, ["dataset.classes=[cat,'wild dög',person]"]),
    "coco": (coco_folder, ["dataset.splits.train.annotations=instances.json", "dataset.splits.train.images=images",
                           "dataset.splits.val=null"]),
}  # fmt: skip


def written(folder, name, frames, ids=None):
    """Writes (frame, detections) pairs in a format and loads them: samples by stem, and the dataset."""
    make, words = FORMATS[name]
    with make(folder, Header("model", CLASSES, ids, 0.5)) as add:
        for frame, found in frames:
            add(frame, found)
        assert not folder.exists()
    words = [f"dataset={name}", f"dataset.root={folder}", *words, "dataset.holdout.val=0", "dataset.holdout.test=0"]
    dataset = make_dataset(compose(words).dataset)
    assert set(dataset.classes) == set(CLASSES)
    return {sample.path.stem: sample for sample in dataset.split("train")}, dataset


def detections(rng, count, width, height):
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1).reshape(count, 4) * [width, height, width, height]
    labels, scores = rng.integers(0, len(CLASSES), count), np.sort(rng.uniform(0.5, 1, count))[::-1]
    return np.column_stack([labels, scores, corners]).astype(np.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_boxes_come_back(name, tmp_path, jpeg):
    rng = np.random.default_rng(3)
    frames = []
    for file, (width, height) in {"dog.jpg": (1999, 1333), "dog.jpeg": (64, 48), "empty.jpg": (50, 50)}.items():
        (tmp_path / file).write_bytes(jpeg(width, height))
        image = cv2.imread(str(tmp_path / file))[:, :, ::-1]
        found = detections(rng, 0 if file == "empty.jpg" else 9, width, height)
        frames.append((Frame(file, image, tmp_path / file), found))
    clip = Clip("a.mp4", "a", 25, 2, False)
    odd = rng.integers(0, 256, (47, 63, 3), dtype=np.uint8)
    frames.append((Frame("a_000001.jpg", odd, clip=clip, number=1), detections(rng, 3, 63, 47)))
    samples, dataset = written(tmp_path / "out", name, frames)
    assert sorted(samples) == ["a_000001", "dog", "dog_jpeg", "empty"]
    for stem, (frame, found) in zip(["dog", "dog_jpeg", "empty", "a_000001"], frames, strict=True):
        sample = samples[stem]
        assert (sample.width, sample.height) == frame.image.shape[1::-1]
        expected = found[:, [0, 2, 3, 4, 5]]
        expected[:, 0] = [dataset.classes.index(CLASSES[int(label)]) for label in expected[:, 0]]
        got = sample.boxes[:, :5]
        order = [np.lexsort(rows.T[::-1].round(2)) for rows in (expected, got)]
        if name == "voc":  # in whole pixels: boxes of a class are some apart
            order = [np.lexsort((rows[:, 1:3].sum(axis=1), rows[:, 0])) for rows in (expected, got)]
        tolerance = 0.5 if name == "voc" else 2e-4 if stem == "dog" else 1e-4
        np.testing.assert_allclose(got[order[1]], expected[order[0]], atol=tolerance)
        if frame.path:
            assert sample.read() == frame.path.read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_a_image_turned_by_its_exif_data(name, tmp_path, jpeg):
    data = jpeg(60, 40)
    tag = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + data[2:])
    image = np.zeros((60, 40, 3), np.uint8)  # as it is shown
    found = np.array([[0, 0.9, 1, 2, 39, 59]], np.float32)
    samples, _ = written(tmp_path / "out", name, [(Frame("a.jpg", image, tmp_path / "a.jpg"), found)])
    assert (samples["a"].width, samples["a"].height) == (40, 60)
    np.testing.assert_allclose(samples["a"].boxes[0, 1:5], [1, 2, 39, 59], atol=1e-4)


def test_coco_keeps_the_numbers_of_categories_and_scores(tmp_path):
    frame = Frame("a.jpg", np.zeros((20, 20, 3), np.uint8))
    found = np.array([[2, 0.75, 1, 2, 5, 6], [1, 0.5, 0, 0, 4, 4]], np.float32)
    _, dataset = written(tmp_path / "out", "coco", [(frame, found)], ids=[17, 18, 1])
    assert sorted(dataset.category_ids) == [1, 17, 18]
    content = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert [(item["category_id"], item["score"]) for item in content["annotations"]] == [(1, 0.75), (18, 0.5)]


def test_voc_has_whole_pixels(tmp_path):
    frame = Frame("a.jpg", np.zeros((20, 30, 3), np.uint8))
    found = np.array([[0, 0.9, 3.4, 2.6, 29.8, 19.5], [0, 0.8, 7.2, 5, 7.9, 6.4]], np.float32)
    written(tmp_path / "out", "voc", [(frame, found)])
    text = (tmp_path / "out" / "Annotations" / "a.xml").read_text()
    numbers = re.findall(r"<[xy]m..>([^<]*)<", text)
    assert numbers == ["4", "4", "30", "20", "8", "6", "9", "7"]


@given(st.tuples(st.floats(0, 28), st.floats(2, 30)), st.tuples(st.floats(0, 18), st.floats(2, 20)))
def test_whole_pixels_come_back_within_half_a_pixel(across, down):
    box = [across[0], down[0], min(across[0] + across[1], 30.0), min(down[0] + down[1], 20.0)]
    xmin, ymin, xmax, ymax = whole_pixels(box, (30, 20))
    assert 1 <= xmin < xmax <= 30
    assert 1 <= ymin < ymax <= 20
    assert np.abs(np.array([xmin - 1, ymin - 1, xmax, ymax]) - box).max() <= 0.5


@given(st.floats(0, 29.9), st.floats(0.001, 2), st.integers(2, 30))
def test_boxes_of_a_pixel_stay_boxes(start, width, side):
    start = start / 30 * (side - 0.01)
    xmin, _, xmax, _ = whole_pixels([start, 0, min(start + width, side), 9], (side, 20))
    assert 1 <= xmin < xmax <= side
    assert xmin - 1 <= start + 1.5
    assert xmax >= start - 0.5


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_left_of_a_folder_that_is_not_finished(name, tmp_path):
    def fail():
        with FORMATS[name][0](tmp_path / "out", Header("model", CLASSES, None, 0.5)) as add:
            add(Frame("a.jpg", np.zeros((20, 20, 3), np.uint8)), np.zeros((0, 6), np.float32))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())


@given(st.lists(st.tuples(*[st.floats(0, 100, width=32)] * 4), max_size=5))
def test_only_boxes_with_an_area_are_labels(corners):
    found = np.array([(0, 0.9, *row) for row in corners], np.float32).reshape(-1, 6)
    boxes = as_boxes(found)
    assert boxes.shape == (sum(row[2] > row[0] and row[3] > row[1] for row in corners), 6)
    assert (boxes[:, 3] > boxes[:, 1]).all()
