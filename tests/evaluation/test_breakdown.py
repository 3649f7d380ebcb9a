import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.evaluation import evaluate_voc
from ssd.evaluation.breakdown import KINDS, error_breakdown
from ssd.evaluation.matching import join

BOX = [0, 0, 10, 10]
OFF = [0, 0, 10, 3]  # IoU with BOX 0.3
FAR = [50, 50, 60, 60]
EMPTY = [80, 80, 90, 90]


def measured(truth, found, classes):
    return error_breakdown(join(truth, found, classes))


def of(truth, found, classes=2):
    return measured([np.array(truth, float)], [np.array(found, float).reshape(-1, 6)], classes)


def check(result, **expected):
    """expected: kind=(count, cost); everything else must be (0, 0)."""
    for kind in KINDS:
        count, cost = expected.get(kind, (0, 0))
        assert result[kind].count == count, kind
        assert result[kind].cost == pytest.approx(cost), kind


def test_a_wrong_class():
    """Repaired, both objects are found: mAP 1 instead of 1/2 (class 1 has no objects, so no AP)."""
    result = of([[0, *BOX], [0, *FAR]], [[0, 0.9, *BOX], [1, 0.8, *FAR]])
    check(result, **{"class": (1, 0.5)})


def test_a_box_too_far_off():
    check(of([[0, *BOX]], [[0, 0.9, *OFF]]), localisation=(1, 1.0))


def test_both_wrong():
    """The object counts as missed, too: nothing aims at it."""
    result = of([[0, *BOX]], [[1, 0.9, *OFF]])
    assert (result["both"].count, result["missed"].count) == (1, 1)
    assert result["both"].cost == 0  # class 1 has no objects, so its detections cost nothing


def test_a_duplicate():
    """Between the two objects in score order: precision 1, 1/2, 2/3; without it 1, 1."""
    result = of([[0, *BOX], [0, *FAR]], [[0, 0.9, *BOX], [0, 0.8, *BOX], [0, 0.7, *FAR]])
    check(result, duplicate=(1, 1 - (0.5 + 0.5 * 2 / 3)))


def test_background():
    result = of([[0, *BOX]], [[0, 0.9, *EMPTY], [0, 0.8, *BOX]])
    check(result, background=(1, 0.5))


def test_missed():
    check(of([[0, *BOX], [0, *FAR]], [[0, 0.9, *BOX]]), missed=(1, 0.5))


def test_a_repaired_box_that_claims_a_found_object_leaves_only_the_better_one():
    """The stray box scores higher: on its object it is the hit, and the former hit goes."""
    check(of([[0, *BOX]], [[0, 0.9, *OFF], [0, 0.8, *BOX]]), localisation=(1, 0.5))


def test_difficult_objects_take_no_part():
    truth = np.array([[0, *BOX, 0], [0, *FAR, 1]], float)
    result = measured([truth], [np.array([[0, 0.9, *BOX], [0, 0.8, *FAR]])], 1)
    check(result)


@pytest.mark.filterwarnings("error")
def test_nothing():
    result = measured([np.zeros((0, 6))], [np.zeros((0, 6))], 2)
    assert all(mistakes.count == 0 and math.isnan(mistakes.cost) for mistakes in result.values())
    assert measured([np.array([[0, *BOX]])], [np.zeros((0, 6))], 1)["missed"].count == 1


@given(st.integers(0, 10**6))
def test_counts_add_up_and_no_repair_costs(random_case, seed):
    """Every false positive is of exactly one kind; repairing never loses mAP while every class keeps objects."""
    truth, found = random_case(seed, images=20)
    voc = evaluate_voc(truth, found, 3)
    result = measured(truth, found, 3)
    assert sum(result[kind].count for kind in KINDS[:-1]) == voc["false_positives"].sum()
    for kind in KINDS[:-1]:
        assert result[kind].cost >= -1e-12, kind
    found_or_covered = voc["positives"].sum() - result["missed"].count
    assert found_or_covered >= voc["true_positives"].sum()


@given(st.integers(0, 10**6))
def test_perfect_detections_make_no_mistake(random_case, seed):
    truth, _ = random_case(seed)
    found = [np.insert(boxes[:, :5], 1, 0.5, axis=1) for boxes in truth]
    overlapping = measured(truth, found, 3)
    assert overlapping["missed"].count == 0
    assert overlapping["background"].count == 0
