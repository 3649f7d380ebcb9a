import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.evaluation.confusion import Confusion, confusion
from ssd.evaluation.matching import join
from ssd.utils.errors import UserError

BOX = [0, 0, 10, 10]
NEAR = [0, 0, 10, 9]
FAR = [50, 50, 60, 60]
NONE = np.zeros((0, 6))


def of(truth, found, thresholds) -> Confusion:
    return confusion(join(truth, found, len(thresholds)), thresholds, 0.5)


def pair(truth, found, thresholds=(0.5, 0.5)):
    truth = np.array(truth).reshape(-1, 5 + (len(truth[0]) - 5 if truth else 0))
    return of([truth], [np.array(found).reshape(-1, 6)], np.array(thresholds))


def test_right_wrong_class_missed_and_background():
    result = pair([[0, *BOX], [1, *FAR]], [[0, 0.9, *BOX], [0, 0.8, *FAR], [1, 0.7, 20, 20, 30, 30]])
    assert result.counts.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert result.found[0].tolist() == [True, False]
    assert result.right[0].tolist() == [True, False, False]
    assert result.ignored[0].tolist() == [False, False, False]


def test_an_object_is_given_to_one_detection_the_best_scored():
    result = pair([[0, *BOX]], [[0, 0.6, *BOX], [1, 0.9, *NEAR]])
    assert result.counts.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_a_detection_whose_best_object_is_taken_takes_the_next():
    result = pair([[0, *BOX], [0, *NEAR]], [[0, 0.9, *BOX], [0, 0.8, *BOX]])
    assert result.counts.tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_thresholds_are_per_class_and_inclusive():
    result = pair([[0, *BOX], [1, *FAR]], [[0, 0.5, *BOX], [1, 0.5, *FAR]], thresholds=(0.5, 0.6))
    assert result.counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert result.ignored[0].tolist() == [False, True]


def test_detections_on_difficult_objects_count_neither_way_however_many():
    result = pair([[0, *BOX, 1]], [[0, 0.9, *BOX], [1, 0.8, *BOX]])
    assert result.counts.sum() == 0
    assert result.ignored[0].all()
    assert result.difficult[0].all()


def test_the_overlap_itself_is_enough():
    assert pair([[0, *BOX]], [[0, 0.9, 0, 0, 10, 5]]).counts[0, 0] == 1
    assert pair([[0, *BOX]], [[0, 0.9, 0, 0, 10, 4.9]]).counts[0, 0] == 0


@pytest.mark.filterwarnings("error")
def test_nothing_and_no_images():
    assert of([NONE], [NONE], np.array([0.5])).counts.tolist() == [[0, 0], [0, 0]]
    assert of([], [], np.array([0.5])).found == []


def test_bad_input_is_told():
    with pytest.raises(UserError, match="class 7"):
        of([np.array([[7, *BOX]])], [NONE], np.array([0.5]))


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_every_object_and_detection_is_counted_once(random_case, seed, threshold):
    truth, found = random_case(seed)
    result = of(truth, found, np.full(3, threshold))
    all_found = np.concatenate(found)
    for label in range(3):
        easy = sum(int(((boxes[:, 0] == label) & (boxes[:, 5] == 0)).sum()) for boxes in truth)
        assert result.counts[label].sum() == easy
    kept = (all_found[:, 1] >= threshold) & ~np.concatenate(result.ignored)
    labels = all_found[kept, 0].astype(int)
    np.testing.assert_array_equal(result.counts.sum(axis=0)[:3], np.bincount(labels, minlength=3))
    assert result.counts[3, 3] == 0
    assert sum(map(np.sum, result.right)) == sum(map(np.sum, result.found)) == np.trace(result.counts[:3, :3])


@given(st.integers(0, 10**6))
def test_equal_to_the_plain_loop(random_case, seed):
    truth, found = random_case(seed)
    counts = np.zeros((4, 4), int)
    for objects, detections in zip(truth, found, strict=True):
        taken = set()
        for det in sorted(detections, key=lambda row: -row[1]):
            free = [(slow_iou(det[2:], row[1:5]), -index) for index, row in enumerate(objects) if index not in taken]
            best, place = max(free, default=(0, 0))
            if best < 0.5:
                counts[3, int(det[0])] += 1
            elif not objects[-place][5]:
                taken.add(-place)
                counts[int(objects[-place][0]), int(det[0])] += 1
        for index, row in enumerate(objects):
            if index not in taken and not row[5]:
                counts[int(row[0]), 3] += 1
    np.testing.assert_array_equal(of(truth, found, np.zeros(3)).counts, counts)


def slow_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    first, second = (max(box[2] - box[0], 0) * max(box[3] - box[1], 0) for box in (a, b))
    return overlap / (first + second - overlap) if overlap else 0.0
