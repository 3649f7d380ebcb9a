import json
import math

import numpy as np
import pytest

from ssd.errors import UserError
from ssd.evaluation import evaluate_coco, evaluate_voc
from ssd.evaluation.coco import NAMES

BOX = [0, 0, 50, 50]
FAR = [100, 100, 150, 150]


def test_perfect_detections():
    result = evaluate_coco([np.array([[0, *BOX], [1, *FAR]])], [np.array([[0, 0.9, *BOX], [1, 0.8, *FAR]])], 2)
    assert tuple(result) == NAMES
    assert result["AP"] == pytest.approx(1)
    assert result["APmedium"] == pytest.approx(1)
    assert math.isnan(result["APsmall"])  # 50 x 50 pixels is medium
    assert result["AR100"] == pytest.approx(1)


def test_half_overlap_counts_at_one_threshold_of_ten():
    result = evaluate_coco([np.array([[0, *BOX]])], [np.array([[0, 0.9, 0, 0, 50, 25]])], 1)
    assert result["AP50"] == pytest.approx(1)
    assert result["AP75"] == 0
    assert result["AP"] == pytest.approx(0.1)


@pytest.mark.parametrize("flags", [[1], [0, 1]], ids=["difficult", "crowd"])
def test_ignored_objects_count_neither_way(flags):
    truth = np.array([[0, *BOX, *np.zeros(len(flags))], [0, *FAR, *flags]])
    missed = evaluate_coco([truth], [np.array([[0, 0.5, *BOX]])], 1)
    found = evaluate_coco([truth], [np.array([[0, 0.5, *BOX], [0, 0.9, *FAR]])], 1)
    assert missed["AP"] == pytest.approx(1)
    assert found["AP"] == pytest.approx(1)


def test_a_crowd_swallows_many_detections_a_difficult_object_one():
    inside = np.array([[0, 0.5, *BOX], [0, 0.9, 100, 100, 120, 120], [0, 0.8, 120, 120, 140, 140]])
    crowd = np.array([[0, *BOX, 0, 0], [0, *FAR, 0, 1]])
    difficult = np.array([[0, *BOX, 0, 0], [0, *FAR, 1, 0]])
    assert evaluate_coco([crowd], [inside], 1)["AP50"] == pytest.approx(1)
    assert evaluate_coco([difficult], [inside], 1)["AP50"] == pytest.approx(1 / 3)


def test_nothing_detected_and_nothing_there():
    assert evaluate_coco([np.array([[0, *BOX]])], [np.zeros((0, 6))], 1)["AP"] == 0
    assert math.isnan(evaluate_coco([np.zeros((0, 5))], [np.array([[0, 0.9, *BOX]])], 1)["AP"])
    assert math.isnan(evaluate_coco([], [], 1)["AP"])


def test_says_nothing(capsys):
    evaluate_coco([np.array([[0, *BOX]])], [np.array([[0, 0.9, *BOX]])], 1)
    assert capsys.readouterr().out == ""


def test_bad_input_is_told():
    with pytest.raises(UserError, match="image 0 holds class 3"):
        evaluate_coco([np.array([[3, *BOX]])], [np.zeros((0, 6))], 2)


@pytest.mark.parametrize("seed", range(5))
def test_ap50_agrees_with_the_area_of_voc(seed):
    """With one object per image and class the two matchers agree, and AP50 is the VOC area sampled at 101 recalls:
    with more than a few hundred objects the sampling error is far below 0.01."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(300):
        corner = rng.uniform(0, 100, 2)
        box = np.concatenate([corner, corner + rng.uniform(20, 60, 2)])
        truth.append(np.array([[0, *box]]))
        found.append(np.array([[0, rng.random(), *(box + rng.normal(0, 6, 4))] for _ in range(3)]))
    voc, coco = evaluate_voc(truth, found, 1), evaluate_coco(truth, found, 1)
    assert 0.1 < voc["map_area"] < 0.9
    assert coco["AP50"] == pytest.approx(voc["map_area"], abs=0.01)


def test_recall_agrees_with_voc(random_case):
    """pycocotools' AR at IoU .5 is no output, but AR100 cannot exceed VOC's recall at .5."""
    truth, found = random_case(3, images=20)
    truth = [boxes[boxes[:, 5] == 0] for boxes in truth]
    voc = evaluate_voc(truth, found, 3)
    assert evaluate_coco(truth, found, 3)["AR100"] <= np.mean(voc["true_positives"] / voc["positives"]) + 1e-9


def test_published_coco_fixture(shared):
    folder = shared / "data" / "metrics"
    expected = json.loads((folder / "expected.json").read_text())["coco_case"]
    truth = json.loads((folder / "coco_case/gts/sampled_gts_bbox_area.json").read_text())
    found = json.loads((folder / "coco_case/dets/sampled_bbox_results.json").read_text())
    label = {category["id"]: index for index, category in enumerate(truth["categories"])}
    images = sorted(image["id"] for image in truth["images"])  # the order decides between equal scores
    per_image = [
        {image: [row for row in annotations if row["image_id"] == image] for image in images}
        for annotations in (truth["annotations"], found["annotations"])
    ]
    boxes, detections = (
        [np.array([_row(row, label) for row in rows[image]]) for image in images] for rows in per_image
    )
    result = evaluate_coco(boxes, detections, len(label))
    for name in NAMES:
        assert result[name] == pytest.approx(expected[name], abs=5.1e-7), name


def _row(annotation, label):
    x, y, width, height = annotation["bbox"]
    score = [annotation["score"]] if "score" in annotation else []
    return [label[annotation["category_id"]], *score, x, y, x + width, y + height]
