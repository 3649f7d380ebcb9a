from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.base import Sample
from ssd.evaluation import matching
from ssd.evaluation.analysis import analyze
from ssd.evaluation.matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, join
from ssd.evaluation.measure import EvalResult
from ssd.evaluation.thresholds import choose_thresholds

BOX = [0, 0, 10, 10]
HALF = [0, 0, 10, 5]  # IoU with BOX is exactly one half
FAR = [50, 50, 60, 60]


def match(ground_truth, detections, num_classes=1, iou=0.5):
    truth, found = ([np.array(rows, float) for rows in lists] for lists in (ground_truth, detections))
    return join(truth, found, num_classes).matches(iou)


def test_found_duplicate_and_missed():
    matches = match([[[0, *BOX], [0, *FAR]]], [[[0, 0.9, *BOX], [0, 0.8, *BOX], [0, 0.7, 20, 20, 30, 30]]])
    assert matches.outcome.tolist() == [TRUE_POSITIVE, FALSE_POSITIVE, FALSE_POSITIVE]
    assert matches.positives.tolist() == [2]


def test_rows_in_any_order_the_best_score_finds_the_object():
    matches = match([[[0, *BOX]]], [[[0, 0.1, *BOX], [0, 0.9, *BOX]]])
    assert matches.score.tolist() == [0.9, 0.1]
    assert matches.outcome.tolist() == [TRUE_POSITIVE, FALSE_POSITIVE]


def test_equal_scores_keep_the_order_they_came_in():
    matches = match([[], [[0, *BOX]]], [[[0, 0.5, *BOX]], [[0, 0.5, *BOX], [0, 0.5, *HALF]]])
    assert matches.outcome.tolist() == [FALSE_POSITIVE, TRUE_POSITIVE, FALSE_POSITIVE]


def test_of_equally_overlapping_objects_the_first_row_is_chosen():
    matches = match([[[0, *BOX, 0], [0, *BOX, 1]]], [[[0, 0.9, *BOX]]])
    assert matches.outcome.tolist() == [TRUE_POSITIVE]
    matches = match([[[0, *BOX, 1], [0, *BOX, 0]]], [[[0, 0.9, *BOX]]])
    assert matches.outcome.tolist() == [IGNORED]


@pytest.mark.parametrize(("iou", "outcome"), [(0.5, TRUE_POSITIVE), (0.5001, FALSE_POSITIVE)])
def test_the_threshold_itself_is_enough(iou, outcome):
    assert match([[[0, *BOX]]], [[[0, 0.9, *HALF]]], iou=iou).outcome.tolist() == [outcome]


def test_without_overlap_there_is_no_match_even_at_threshold_zero():
    assert match([[]], [[[0, 0.9, *BOX]]], iou=0.0).outcome.tolist() == [FALSE_POSITIVE]


def test_second_best_object_is_no_consolation():
    """The devkit compares with the most overlapping object only, also when that one is taken."""
    near = [0, 0, 10, 9]
    matches = match([[[0, *BOX], [0, *near]]], [[[0, 0.9, *BOX], [0, 0.8, 0, 0, 10, 9.9]]])
    assert matches.outcome.tolist() == [TRUE_POSITIVE, FALSE_POSITIVE]


def test_every_detection_of_a_difficult_object_is_ignored():
    matches = match([[[0, *BOX, 1]]], [[[0, 0.9, *BOX], [0, 0.8, *BOX]]])
    assert matches.outcome.tolist() == [IGNORED, IGNORED]
    assert matches.positives.tolist() == [0]


def test_difficult_object_below_the_threshold_saves_nobody():
    assert match([[[0, *BOX, 1]]], [[[0, 0.9, *FAR]]]).outcome.tolist() == [FALSE_POSITIVE]


def test_crowd_column_is_ignored_like_difficult():
    matches = match([[[0, *BOX, 0, 1]]], [[[0, 0.9, *BOX]]])
    assert matches.outcome.tolist() == [IGNORED]
    assert matches.positives.tolist() == [0]


def test_images_and_classes_do_not_mix():
    matches = match([[[0, *BOX]], [[1, *BOX]]], [[[1, 0.9, *BOX]], [[0, 0.8, *BOX]]], num_classes=2)
    assert matches.outcome.tolist() == [FALSE_POSITIVE, FALSE_POSITIVE]


def test_result_is_grouped_by_class():
    matches = match([[]], [[[1, 0.2, *BOX], [0, 0.3, *BOX], [1, 0.9, *BOX], [0, 0.8, *BOX]]], num_classes=2)
    assert matches.label.tolist() == [0, 0, 1, 1]
    assert matches.score.tolist() == [0.8, 0.3, 0.9, 0.2]


@given(st.integers(0, 10**6))
def test_drawn_images_are_as_if_they_had_been_joined_so(random_case, seed):
    truth, found = random_case(seed)
    drawn = np.random.default_rng(seed).integers(8, size=8)
    joined = join(truth, found, 3).drawn(drawn)
    expected = join([truth[image] for image in drawn], [found[image] for image in drawn], 3)
    for table, other in ((joined.truth, expected.truth), (joined.found, expected.found)):
        for field in ("image", "label", "values"):
            np.testing.assert_array_equal(getattr(table, field), getattr(other, field))
    for field in ("images", "ignored", "object", "overlap"):
        np.testing.assert_array_equal(getattr(joined, field), getattr(expected, field))


def test_an_analysis_joins_and_matches_once(monkeypatch, random_case):
    calls = Counter()
    for name in ("detection_table", "ground_truth_table", "most_overlapping"):
        monkeypatch.setattr(matching, name, counted(getattr(matching, name), calls))
    truth, found = random_case(3)
    samples = [Sample(str(n), Path("x"), 100, 100, boxes.astype(np.float32)) for n, boxes in enumerate(truth)]
    rules = SimpleNamespace(iou=0.5, compat=None, coco=True)
    measured = EvalResult.of(samples, found, ["a", "b", "c"], rules)
    analyze(measured.joined, measured.voc, rules, choose_thresholds(measured.voc, "val", None))
    assert calls == {"detection_table": 1, "ground_truth_table": 1, "most_overlapping": 1}


def counted(function, calls):
    def call(*arguments):
        calls[function.__name__] += 1
        return function(*arguments)

    return call
