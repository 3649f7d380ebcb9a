import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.evaluation import evaluate_voc
from ssd.evaluation.voc import average_precision_11pt, average_precision_area
from ssd.utils.errors import UserError

BOX = [0, 0, 10, 10]
FAR = [50, 50, 60, 60]
NONE = np.zeros((0, 6))


def rows(*values):
    return np.array(values, np.float32)


def check_equal(one, other):
    for key in ("ap_11pt", "ap_area", "positives", "true_positives", "false_positives"):
        np.testing.assert_allclose(one[key], other[key], atol=1e-12)


# --- by hand -----------------------------------------------------------------------------------------------------


def test_curves_and_both_averages_by_hand():
    """Found, wrong, found, of two objects: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    truth = [rows([0, *BOX]), rows([0, *FAR])]
    found = [rows([0, 0.9, *BOX], [0, 0.8, *FAR]), rows([0, 0.7, *FAR])]
    result = evaluate_voc(truth, found, 1)
    np.testing.assert_allclose(result["precision"][0], [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(result["recall"][0], [1 / 2, 1 / 2, 1])
    np.testing.assert_allclose(result["scores"][0], [0.9, 0.8, 0.7], rtol=1e-6)
    assert result["ap_area"][0] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert result["ap_11pt"][0] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert (result["positives"][0], result["true_positives"][0], result["false_positives"][0]) == (2, 2, 1)


def test_11_points_at_recall_that_ends_between_points():
    assert average_precision_11pt(np.array([1.0]), np.array([0.25])) == pytest.approx(3 / 11)
    assert average_precision_area(np.array([1.0]), np.array([0.25])) == pytest.approx(0.25)


def test_11_points_round_like_every_published_implementation():
    """0.1 * 3 exceeds 3/10 in floating point, so the fourth point is not reached; 0.2 is."""
    assert average_precision_11pt(np.array([1.0]), np.array([3 / 10])) == pytest.approx(3 / 11)
    assert average_precision_11pt(np.array([1.0]), np.array([2 / 10])) == pytest.approx(3 / 11)


def test_perfect_is_one():
    truth = [rows([0, *BOX], [1, *FAR]), rows([1, *BOX])]
    found = [np.insert(boxes, 1, 0.5, axis=1) for boxes in truth]
    result = evaluate_voc(truth, found, 2)
    assert result["map_11pt"] == pytest.approx(1)
    assert result["map_area"] == pytest.approx(1)


# --- where the original went wrong ---------------------------------------------------------------------------------


def test_unsorted_detections_are_sorted_first():
    result = evaluate_voc([rows([0, *BOX])], [rows([0, 0.1, *FAR], [0, 0.9, *BOX])], 1)
    assert result["map_area"] == 1
    assert result["map_11pt"] == 1


def test_missed_object_counts_although_all_detections_of_its_image_hit_a_difficult_one():
    truth = [rows([0, *BOX, 1], [0, *FAR, 0]), rows([0, *BOX, 0])]
    found = [rows([0, 0.9, *BOX]), rows([0, 0.8, *BOX])]
    result = evaluate_voc(truth, found, 1)
    assert result["positives"].tolist() == [2]
    assert result["map_area"] == 0.5


def test_difficult_objects_are_no_positives_without_detections_either():
    result = evaluate_voc([rows([0, *BOX, 1])], [NONE], 1)
    assert result["positives"].tolist() == [0]
    assert math.isnan(result["ap_area"][0])


def test_class_without_ground_truth_is_left_out_of_the_mean():
    result = evaluate_voc([rows([0, *BOX])], [rows([0, 0.9, *BOX], [1, 0.9, *BOX])], 3)
    np.testing.assert_array_equal(result["ap_area"], [1, np.nan, np.nan])
    assert result["map_area"] == 1
    assert result["false_positives"].tolist() == [0, 1, 0]
    assert np.isnan(result["recall"][1]).all()


def test_class_without_detections_is_zero():
    result = evaluate_voc([rows([0, *BOX], [1, *BOX])], [rows([0, 0.9, *BOX])], 2)
    assert result["ap_area"].tolist() == [1, 0]
    assert result["ap_11pt"].tolist() == [1, 0]
    assert result["map_area"] == 0.5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("found", [NONE, rows([0, 0.9, *BOX])])
def test_no_ground_truth_at_all_is_nan(found):
    result = evaluate_voc([NONE], [found], 2)
    assert math.isnan(result["map_area"])
    assert math.isnan(result["map_11pt"])


def test_no_images():
    assert math.isnan(evaluate_voc([], [], 2)["map_area"])


def test_class_out_of_range_is_an_error_that_says_so():
    with pytest.raises(UserError, match="detections of image 0 holds class 2: expected whole numbers from 0 to 1"):
        evaluate_voc([NONE], [rows([2, 0.9, *BOX])], 2)


# --- properties ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6))
def test_order_of_images_and_rows_does_not_matter(random_case, seed):
    truth, found = random_case(seed)
    rng = np.random.default_rng(seed + 1)
    order = rng.permutation(len(truth))
    shuffled = evaluate_voc([rng.permutation(truth[i]) for i in order], [rng.permutation(found[i]) for i in order], 3)
    check_equal(evaluate_voc(truth, found, 3), shuffled)


@given(st.integers(0, 10**6), st.floats(0.1, 50), st.floats(-10, 10))
def test_only_the_order_of_scores_matters(random_case, seed, scale, shift):
    truth, found = random_case(seed)
    other = [boxes.copy() for boxes in found]
    for boxes in other:
        boxes[:, 1] = np.exp(boxes[:, 1]) * scale + shift
    check_equal(evaluate_voc(truth, found, 3), evaluate_voc(truth, other, 3))


@given(st.integers(0, 10**6))
def test_ground_truth_as_detections_is_perfect(random_case, seed):
    truth, _ = random_case(seed)
    found = [np.insert(boxes[:, :5], 1, 0.5, axis=1) for boxes in truth]
    result = evaluate_voc(truth, found, 3)
    np.testing.assert_allclose(result["ap_area"][result["positives"] > 0], 1)
    np.testing.assert_allclose(result["ap_11pt"][result["positives"] > 0], 1)


@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(0, 2))
def test_a_false_positive_never_helps(random_case, seed, score, label):
    truth, found = random_case(seed)
    before = evaluate_voc(truth, found, 3)
    found[0] = np.vstack([found[0], [label, score, 900, 900, 950, 950]])
    after = evaluate_voc(truth, found, 3)
    for key in ("ap_11pt", "ap_area"):
        assert (np.nan_to_num(after[key]) <= np.nan_to_num(before[key]) + 1e-12).all()


@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(0, 2))
def test_finding_one_more_object_never_hurts(random_case, seed, score, label):
    truth, found = random_case(seed)
    truth[0] = np.vstack([truth[0], [label, 900, 900, 950, 950, 0]])
    before = evaluate_voc(truth, found, 3)
    found[0] = np.vstack([found[0], [label, score, 900, 900, 950, 950]])
    after = evaluate_voc(truth, found, 3)
    for key in ("ap_11pt", "ap_area"):
        assert (np.nan_to_num(after[key]) >= np.nan_to_num(before[key]) - 1e-12).all()


@given(st.integers(0, 10**6), st.integers(0, 2**31), st.floats(0, 2))
def test_ap_is_monotone_in_the_scores(random_case, seed, choice, change):
    """The only hit of an object never costs AP by scoring higher; a detection of nothing never gains by it."""
    truth, found = random_case(seed)
    image = choice % len(found)
    if not len(found[image]):
        return
    row = choice % len(found[image])
    label = int(found[image][row, 0])
    alone = [boxes[[row]] if index == image else NONE for index, boxes in enumerate(found)]
    others = [np.delete(boxes, row, axis=0) if index == image else boxes for index, boxes in enumerate(found)]
    of_nothing = evaluate_voc(truth, alone, 3)["false_positives"][label] > 0
    before = evaluate_voc(truth, found, 3)
    needed = evaluate_voc(truth, others, 3)["true_positives"][label] < before["true_positives"][label]
    found[image][row, 1] += change
    after = evaluate_voc(truth, found, 3)
    if needed:
        assert after["ap_area"][label] >= before["ap_area"][label] - 1e-12
    elif of_nothing and before["positives"][label]:
        assert after["ap_area"][label] <= before["ap_area"][label] + 1e-12


def test_average_iou_of_the_true_positives():
    truth = [rows([0, *BOX], [0, *FAR], [1, *FAR])]
    result = evaluate_voc(truth, [rows([0, 0.9, 0, 0, 10, 8], [0, 0.8, *FAR], [0, 0.7, *FAR], [1, 0.9, *BOX])], 2)
    assert result["iou"][0] == pytest.approx(0.9)
    assert np.isnan(result["iou"][1])
    assert result["mean_iou"] == pytest.approx(0.9)


@given(st.integers(0, 10**6), st.floats(0.05, 0.95))
def test_everything_lies_between_0_and_1(random_case, seed, iou):
    truth, found = random_case(seed)
    result = evaluate_voc(truth, found, 3, iou)
    for key in ("ap_11pt", "ap_area"):
        known = result[key][~np.isnan(result[key])]
        assert ((known >= 0) & (known <= 1 + 1e-12)).all()
    assert (result["true_positives"] <= result["positives"]).all()
    for label in range(3):
        assert len(result["scores"][label]) == result["true_positives"][label] + result["false_positives"][label]


@given(st.integers(0, 10**6))
@settings(max_examples=50)
def test_equal_to_the_devkit_loop(random_case, seed):
    """The same numbers from the plain loop over detections that the devkit runs."""
    truth, found = random_case(seed)
    result = evaluate_voc(truth, found, 3)
    for label in range(3):
        hits, positives = devkit_loop(truth, found, label)
        assert result["positives"][label] == positives
        if positives:
            np.testing.assert_allclose(result["precision"][label] * np.arange(1, len(hits) + 1), np.cumsum(hits))
            np.testing.assert_allclose(result["recall"][label], np.cumsum(hits) / positives)


def devkit_loop(truth, found, label):
    """Outcome (1 found, 0 false) of each detection of a class that counts, best first, and the number of positives."""
    everything = sorted(
        ((-row[1], image, row[2:]) for image, boxes in enumerate(found) for row in boxes if row[0] == label),
        key=lambda item: item[0],
    )
    hits, taken = [], set()
    for _, image, box in everything:
        best, choice = -1.0, None
        for number, row in enumerate(truth[image]):
            if row[0] == label:
                width = min(box[2], row[3]) - max(box[0], row[1])
                height = min(box[3], row[4]) - max(box[1], row[2])
                overlap = max(width, 0) * max(height, 0)
                areas = max(box[2] - box[0], 0) * max(box[3] - box[1], 0) + (row[3] - row[1]) * (row[4] - row[2])
                if overlap / (areas - overlap) > best:
                    best, choice = overlap / (areas - overlap), number
        if best < 0.5:
            hits.append(0)
        elif not truth[image][choice][5]:
            hits.append(int((image, choice) not in taken))
            taken.add((image, choice))
    return hits, sum(int(row[0] == label and not row[5]) for boxes in truth for row in boxes)


# --- a published fixture ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("iou", ["0.1", "0.3", "0.5", "0.75"])
def test_published_pascal_fixture(shared, iou):
    folder = shared / "data" / "metrics"
    expected = json.loads((folder / "expected.json").read_text())["pascal_case_1"]["iou"][iou]
    case = folder / "pascal_case_1"
    files = sorted(path.name for path in (case / "gts").iterdir())
    truth = [_read(case / "gts" / name) for name in files]
    found = [_read(case / "dets" / name) for name in files]
    result = evaluate_voc(truth, found, 1, float(iou))
    assert result["map_11pt"] == pytest.approx(expected["11pt"], abs=1e-10)
    assert result["map_area"] == pytest.approx(expected["all"], abs=1e-10)


def _read(path):
    """Rows "name [score] x y w h"; the fixture's corner x + w is an inclusive pixel, hence + 1."""
    values = [[0.0, *map(float, line.split()[1:])] for line in path.read_text().splitlines()]
    boxes = np.array(values)
    boxes[:, -2:] += boxes[:, -4:-2] + 1
    return boxes
