import json
import subprocess
import sys

import numpy as np
import pytest

from ssd.evaluation import evaluate_voc
from ssd.evaluation.curves import best_f1, curve_data, plot_curves

BOX = [0, 0, 10, 10]
FAR = [50, 50, 60, 60]


def result_of(*detections):
    return evaluate_voc([np.array([[0, *BOX], [0, *FAR]])], [np.array(detections)], 2)


def test_best_f1_by_hand():
    """F1 is 2/3 after the first, 1/2 after the wrong second, 4/5 after the third."""
    thresholds, f1 = best_f1(result_of([0, 0.9, *BOX], [0, 0.8, 20, 20, 30, 30], [0, 0.7, *FAR], [0, 0.6, *FAR]))
    assert thresholds[0] == pytest.approx(0.7)
    assert f1[0] == pytest.approx(0.8)
    assert np.isnan(thresholds[1])  # no ground truth
    assert np.isnan(f1[1])


def test_a_threshold_takes_all_equal_scores_or_none():
    thresholds, f1 = best_f1(result_of([0, 0.5, *BOX], [0, 0.5, 20, 20, 30, 30], [0, 0.5, *BOX]))
    assert thresholds[0] == pytest.approx(0.5)
    assert f1[0] == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))


def test_best_f1_without_any_hit_is_nan():
    assert np.isnan(best_f1(result_of([0, 0.9, 20, 20, 30, 30]))[0]).all()
    assert np.isnan(best_f1(evaluate_voc([np.array([[0, *BOX]])], [np.zeros((0, 6))], 1))[0]).all()


def test_curve_data_is_json_thinned_and_without_classes_that_do_not_exist(random_case):
    truth, found = random_case(0, images=100)
    result = evaluate_voc(truth, found, 4)
    data = json.loads(json.dumps(curve_data(result, ["a", "b", "c", "d"], 10), allow_nan=False))
    assert list(data) == ["a", "b", "c"]
    assert 5 < len(data["a"]["recall"]) == len(data["a"]["precision"]) == len(data["a"]["scores"]) <= 10
    assert data["a"]["recall"][-1] == result["recall"][0][-1]
    assert data["a"]["ap_area"] == result["ap_area"][0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [[], [0], [2], [0, 1, 2, 3]], ids=str)
def test_plot(random_case, classes):
    truth, found = random_case(0)
    image = plot_curves(evaluate_voc(truth, found, 4), ["a", "b", "c", "d"], classes)
    assert image.dtype == np.uint8
    assert image.shape == (600, 1080, 3)


def test_plot_of_many_classes_draws_the_middle_gray(random_case):
    truth, found = random_case(0, images=60, classes=40)
    image = plot_curves(evaluate_voc(truth, found, 40), [f"class {index}" for index in range(40)], range(40))
    assert (image == 204).all(axis=2).any()


def test_matplotlib_is_loaded_for_plots_only():
    code = "import sys, ssd.evaluation.curves; sys.exit('matplotlib' in sys.modules or 'pycocotools' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.filterwarnings("error")
def test_plot_with_a_class_that_has_objects_but_no_detections():
    result = evaluate_voc([np.array([[0, *BOX], [1, *FAR]])], [np.array([[0, 0.9, *BOX]])], 2)
    assert plot_curves(result, ["a", "b"], [0, 1]).shape == (600, 1080, 3)
    assert curve_data(result, ["a", "b"], 10)["b"]["recall"] == []
