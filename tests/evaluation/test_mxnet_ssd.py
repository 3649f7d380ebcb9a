"""The original's mAP: each quirk by hand, and the whole against its loop over images and detections."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.evaluation import evaluate_voc
from ssd.evaluation.mxnet_ssd import evaluate_mxnet_ssd

BOX = [0, 0, 10, 10]
HALF = [0, 0, 10, 5]  # IoU with BOX is exactly one half
FAR = [50, 50, 60, 60]
NONE = np.zeros((0, 6))


def rows(*values):
    return np.array(values, np.float32)


def both(truth, found, classes=1):
    return evaluate_mxnet_ssd(truth, found, classes), evaluate_voc(truth, found, classes)


def test_unsorted_detections_are_matched_as_they_come():
    quirky, right = both([rows([0, *BOX])], [rows([0, 0.1, *BOX], [0, 0.9, *BOX])])
    assert quirky["map_area"] == 0.5
    assert right["map_area"] == 1


def test_the_threshold_itself_is_not_enough():
    quirky, right = both([rows([0, *BOX])], [rows([0, 0.9, *HALF])])
    assert quirky["map_area"] == 0
    assert right["map_area"] == 1


def test_objects_are_lost_where_all_detections_of_their_image_hit_difficult_ones():
    truth = [rows([0, *BOX, 1], [0, *FAR, 0]), rows([0, *BOX, 0])]
    quirky, right = both(truth, [rows([0, 0.9, *BOX]), rows([0, 0.8, *BOX])])
    assert quirky["positives"].tolist() == [1]
    assert quirky["map_area"] == 1
    assert right["map_area"] == 0.5


def test_difficult_objects_count_where_nothing_was_detected():
    quirky, right = both([rows([0, *BOX, 1])], [NONE])
    assert quirky["positives"].tolist() == [1]
    assert quirky["map_area"] == 0
    assert math.isnan(right["map_area"])


def test_a_class_without_objects_but_with_detections_is_0_in_the_mean():
    quirky, right = both([rows([0, *BOX])], [rows([0, 0.9, *BOX], [1, 0.8, *BOX])], 3)
    np.testing.assert_array_equal(quirky["ap_area"], [1, 0, np.nan])
    np.testing.assert_array_equal(quirky["ap_11pt"], [1, 0, np.nan])
    assert quirky["map_area"] == 0.5
    assert right["map_area"] == 1


@pytest.mark.filterwarnings("error")
def test_nothing_at_all_is_nan():
    assert math.isnan(evaluate_mxnet_ssd([NONE], [NONE], 2)["map_area"])
    assert math.isnan(evaluate_mxnet_ssd([], [], 2)["map_11pt"])


@given(st.integers(0, 10**6))
def test_without_difficult_objects_and_foreign_detections_it_is_the_devkits(random_case, seed):
    truth, found = random_case(seed)
    truth = [boxes[:, :5] for boxes in truth]
    found = [boxes[np.argsort(-boxes[:, 1])] for boxes in found]
    quirky, right = both(truth, found, 3)
    known = right["positives"] > 0
    np.testing.assert_allclose(quirky["ap_area"][known], right["ap_area"][known])
    np.testing.assert_allclose(quirky["ap_11pt"][known], right["ap_11pt"][known])


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_equal_to_the_loop_of_the_original(random_case, seed):
    truth, found = random_case(seed)
    result = evaluate_mxnet_ssd(truth, found, 3)
    aps = original_loop(truth, found, 3)
    for label in range(3):
        if label in aps:
            assert result["ap_area"][label] == pytest.approx(aps[label], abs=1e-12)
        else:
            assert math.isnan(result["ap_area"][label])
    if aps:
        assert result["map_area"] == pytest.approx(np.mean(list(aps.values())))


def original_loop(truth, found, classes):
    """Area AP of the classes that the original has a record of, one image and detection after the other."""
    records, counts = {}, {}
    for objects, detections in zip(truth, found, strict=True):
        for label in range(classes):
            own, dets = objects[objects[:, 0] == label], detections[detections[:, 0] == label]
            kept, taken = [], set()
            for det in dets:
                overlaps = [slow_iou(det[2:], row[1:5]) for row in own]
                best = int(np.argmax(overlaps)) if overlaps else -1
                if best < 0 or overlaps[best] <= 0.5:
                    kept.append((det[1], False))
                elif not own[best][5]:
                    kept.append((det[1], best not in taken))
                    taken.add(best)
            if kept or (len(own) and not len(dets)):
                records.setdefault(label, []).extend(kept)
                counts[label] = counts.get(label, 0) + (sum(row[5] == 0 for row in own) if len(dets) else len(own))
    return {label: area_ap(kept, counts[label]) for label, kept in records.items()}


def slow_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    first, second = (max(box[2] - box[0], 0) * max(box[3] - box[1], 0) for box in (a, b))
    return overlap / (first + second - overlap) if overlap else 0.0


def area_ap(kept, positives):
    if not positives:
        return 0.0
    hits = np.cumsum([hit for _, hit in sorted(kept, key=lambda record: -record[0])])
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / positives
    gained = np.diff(recall, prepend=0)
    return sum(gain * max(precision[index:]) for index, gain in enumerate(gained))
