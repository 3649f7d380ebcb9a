from types import SimpleNamespace

import numpy as np
import pytest

from ssd.evaluation import evaluate_coco, evaluate_voc
from ssd.evaluation.analysis import analyze
from ssd.evaluation.matching import join
from ssd.evaluation.thresholds import choose_thresholds

BOX = [0, 0, 10, 10]
FAR = [50, 50, 60, 60]
EMPTY = [80, 80, 90, 90]


def of(truth, found, classes=2, threshold=None, coco=False):
    truth, found = ([np.array(rows, float) for rows in lists] for lists in (truth, found))
    voc = evaluate_voc(truth, found, classes)
    rules = SimpleNamespace(iou=0.5, coco=coco)
    return analyze(join(truth, found, classes), voc, rules, choose_thresholds(voc, "val", threshold))


TRUTH = [[[0, *BOX], [0, *FAR]], [[0, *BOX]], np.zeros((0, 6))]
FOUND = [[[0, 0.9, *BOX], [0, 0.2, *EMPTY]], [[0, 0.8, *BOX]], [[0, 0.1, *EMPTY]]]


def test_rates_at_the_best_f1_of_each_class():
    result = of(TRUTH, FOUND)
    assert result.thresholds.scores[0] == 0.8
    assert result.thresholds.scores[1] == 0.8  # nothing of class 1: the mean of the others
    precision, recall, f1 = result.rates()
    assert (precision[0], recall[0], f1[0]) == (1, pytest.approx(2 / 3), pytest.approx(0.8))
    assert np.isnan(precision[1])
    assert result.overall() == (1, pytest.approx(2 / 3), pytest.approx(0.8))


def test_rates_at_a_fixed_threshold():
    result = of(TRUTH, FOUND, threshold=0.15)
    assert result.true.tolist() == [2, 0]
    assert result.false.tolist() == [1, 0]
    assert result.overall()[0] == pytest.approx(2 / 3)


def test_images_are_ranked_by_f1_then_mistakes():
    result = of(TRUTH, FOUND, threshold=0.05)
    assert result.image_counts().tolist() == [[1, 1, 1], [1, 0, 0], [0, 1, 0]]
    np.testing.assert_allclose(result.image_scores(), [0.5, 1, 0])
    assert result.worst_first().tolist() == [2, 0, 1]


def test_an_empty_image_without_detections_is_perfect():
    assert of([np.zeros((0, 6))], [np.zeros((0, 6))]).image_scores().tolist() == [1]


def test_values_are_flat_numbers_and_coco_comes_when_asked():
    values = of(TRUTH, FOUND).values()
    assert set(values) == {"precision", "recall", "f1", "mean_iou"} | {
        f"cost/{kind}" for kind in ("class", "localisation", "both", "duplicate", "background", "missed")
    }
    assert values["mean_iou"] == 1
    truth, found = ([np.array(rows, float) for rows in lists] for lists in (TRUTH, FOUND))
    assert of(TRUTH, FOUND, coco=True).values()["AP"] == evaluate_coco(truth, found, 2)["AP"]


def test_rates_agree_with_the_confusion_matrix_where_classes_do_not_meet(random_case):
    """With one class both ways of matching find the same objects, but for crowded places."""
    truth, found = random_case(5, images=40, classes=1)
    result = of(truth, found, classes=1, threshold=0.3)
    assert abs(int(result.confusion.counts[0, 0]) - int(result.true[0])) <= 2
