import json

import numpy as np

from ssd.detection.results import ImageResult, objects, write_coco, write_voc
from ssd.detection.selection import Selection

IMAGES = [
    ImageResult("dog.jpg", 640, 480, np.array([[1, 0.9, 10, 20, 110.126, 220], [0, 0.4, 0, 0, 5, 5]], np.float32)),
    ImageResult("häuser.png", 30, 40, np.zeros((0, 6), np.float32)),
]


def test_voc_lists_are_inclusive_one_based_pixels(tmp_path):
    write_voc(tmp_path / "Main", "test", IMAGES, ["dog", "000012"], ["cat", "dog"])
    assert (tmp_path / "Main/comp4_det_test_dog.txt").read_text() == "dog 0.900000 11.00 21.00 110.13 220.00\n"
    assert (tmp_path / "Main/comp4_det_test_cat.txt").read_text() == "dog 0.400000 1.00 1.00 5.00 5.00\n"


def test_voc_lists_have_the_ids_of_the_dataset_and_file_names_without_slashes(tmp_path):
    write_voc(tmp_path, "val", IMAGES, ["2007_000027", "x"], ["cat/kitten", "dog"])
    assert (tmp_path / "comp4_det_val_dog.txt").read_text().startswith("2007_000027 0.9")
    assert (tmp_path / "comp4_det_val_cat_kitten.txt").is_file()


def test_coco_results(tmp_path):
    path = tmp_path / "results.json"
    write_coco(path, IMAGES, image_ids=[42, 73], category_ids=[17, 18])
    width, scores = float(np.float32(110.126)) - 10, [float(np.float32(score)) for score in (0.9, 0.4)]
    assert json.loads(path.read_text()) == [
        {"image_id": 42, "category_id": 18, "bbox": [10, 20, width, 200], "score": scores[0]},
        {"image_id": 42, "category_id": 17, "bbox": [0, 0, 5, 5], "score": scores[1]},
    ]


def test_a_score_as_it_is_written_keeps_its_detection_when_it_becomes_the_threshold() -> None:
    rng = np.random.default_rng(0)
    rows = np.zeros((200, 6), np.float32)
    rows[:, 1] = rng.random(200)
    for index, one in enumerate(objects(rows, ["a"], 0)):
        kept = Selection.of(one["score"], None, ["a"]).pick(rows)
        assert rows[index, 1] in kept[:, 1]
        assert [other["score"] for other in objects(rows, ["a"], one["score"])].count(one["score"])
        assert len(kept) == len(objects(rows, ["a"], one["score"]))
