import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.ops.boxes import DecodeParams, decode, rows_to_detections
from ssd.utils.errors import UserError


def params_of(score, nms, topk, keep, soft_nms=None, sigma=0.5):
    return DecodeParams(score, nms, topk, keep, soft_nms, sigma, flip=False)


PARAMS = params_of(score=0.01, nms=0.45, topk=400, keep=200)
LEFT, LEFT_TOO, RIGHT = [0.0, 0.0, 0.4, 0.4], [0.0, 0.0, 0.4, 0.38], [0.6, 0.6, 1.0, 1.0]


def decode_one(prob, boxes, params=PARAMS):
    """prob: [N, C] per anchor without background, as one reads it."""
    foreground = np.array(prob, np.float32).T
    background = 1 - foreground.sum(axis=0, keepdims=True)
    return decode(np.concatenate([background, foreground])[None], np.array([boxes], np.float32), params)[0]


def random_answer(seed, anchors=60, classes=3, images=1):
    """Sharp to flat softmax outputs over crowded boxes, with some scores exactly equal."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, rng.uniform(0.2, 4), (images, classes + 1, anchors))
    logits[:, 0] += rng.uniform(-1, 3)
    logits = np.round(logits, rng.integers(0, 4))
    prob = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    center, side = rng.uniform(0.2, 0.8, (images, anchors, 2)), rng.uniform(0.05, 0.6, (images, anchors, 2))
    boxes = np.clip(np.concatenate([center - side / 2, center + side / 2], axis=2), 0, 1)
    return prob.astype(np.float32), boxes.astype(np.float32)


def slow_decode(prob, boxes, params):
    """The definition, one comparison at a time."""
    survivors = []
    for label in range(1, len(prob)):
        anchors = [i for i in range(len(boxes)) if prob[label, i] > params.score]
        anchors = sorted(anchors, key=lambda i: -prob[label, i])[: params.topk]
        kept = []
        for i in anchors:
            if all(slow_iou(boxes[i], boxes[j]) <= params.nms for j in kept):
                kept.append(i)
        survivors += [(label - 1, prob[label, i], *boxes[i]) for i in kept]
    best = sorted(survivors, key=lambda row: -row[1])[: params.keep]
    return np.array(best, np.float32).reshape(-1, 6)


def slow_soft(prob, boxes, params):
    """Soft-NMS as its paper has it: class by class the best box out, the others weighed down, until none is left."""
    survivors = []
    for label in range(1, len(prob)):
        anchors = [i for i in range(len(boxes)) if prob[label, i] > params.score]
        anchors = sorted(anchors, key=lambda i: -prob[label, i])[: params.topk]
        left = {i: prob[label, i] for i in anchors}
        while left:
            best = max(left, key=lambda i: left[i])
            score = left.pop(best)
            if score <= params.score:
                break
            survivors.append((label - 1, score, *boxes[best]))
            for i in left:
                overlap = np.float32(slow_iou(boxes[i], boxes[best]))
                if params.soft_nms == "gaussian":
                    left[i] = np.float32(left[i] * np.exp(-(overlap**2) / params.sigma))
                elif overlap > params.nms:
                    left[i] = np.float32(left[i] * (1 - overlap))
    best = sorted(survivors, key=lambda row: -row[1])[: params.keep]
    return np.array(best, np.float32).reshape(-1, 6)


def slow_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union if union > 0 else 0


def test_the_weaker_of_two_overlapping_boxes_goes():
    found = decode_one([[0.6], [0.9], [0.3]], [LEFT, LEFT_TOO, RIGHT])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0, 0.9, *LEFT_TOO], [0, 0.3, *RIGHT]], rtol=1e-6)


def test_one_anchor_may_hold_several_classes():
    found = decode_one([[0.5, 0.4]], [LEFT])
    np.testing.assert_allclose(found, [[0, 0.5, *LEFT], [1, 0.4, *LEFT]], rtol=1e-6)


def test_classes_do_not_suppress_each_other():
    assert len(decode_one([[0.9, 0.0], [0.0, 0.8]], [LEFT, LEFT_TOO])) == 2


def test_a_suppressed_box_suppresses_nobody():
    """A beats B, B would beat C, A does not touch C: C stays."""
    a, b, c = [0, 0, 0.4, 1], [0.1, 0, 0.5, 1], [0.2, 0, 0.6, 1]  # IoU a-b and b-c 0.6, a-c 1/3
    found = decode_one([[0.9], [0.8], [0.7]], [a, b, c])
    np.testing.assert_allclose(found[:, 1], [0.9, 0.7], rtol=1e-6)


def test_score_must_be_exceeded():
    assert len(decode_one([[0.5], [0.50001]], [LEFT, RIGHT], params_of(0.5, 0.45, 400, 200))) == 1


def test_iou_at_the_limit_stays():
    half = [0.0, 0.0, 0.5, 0.25]
    assert len(decode_one([[0.9], [0.8]], [[0, 0, 0.5, 0.5], half], params_of(0.01, 0.5, 400, 200))) == 2


def test_nms_1_switches_suppression_off():
    assert len(decode_one([[0.9], [0.8]], [LEFT, LEFT], params_of(0.01, 1, 400, 200))) == 2


def test_topk_cuts_each_class_before_suppression():
    """The two best of class 0 are one object; the third candidate is cut before it could profit."""
    prob = [[0.5, 0.0], [0.49, 0.0], [0.3, 0.2]]
    found = decode_one(prob, [LEFT, LEFT_TOO, RIGHT], params_of(0.01, 0.45, topk=2, keep=200))
    np.testing.assert_allclose(found[:, :2], [[0, 0.5], [1, 0.2]], rtol=1e-6)


def test_keep_cuts_the_image_after_suppression():
    found = decode_one([[0.9], [0.8], [0.3]], [LEFT, LEFT_TOO, RIGHT], params_of(0.01, 0.45, topk=400, keep=2))
    np.testing.assert_allclose(found[:, 1], [0.9, 0.3], rtol=1e-6)


def test_equal_scores_come_by_class_then_anchor():
    found = decode_one([[0.3, 0.3], [0.3, 0.3]], [RIGHT, LEFT])
    np.testing.assert_allclose(found[:, [0, 2]], [[0, 0.6], [0, 0], [1, 0.6], [1, 0]], rtol=1e-6)


def test_topk_among_equal_scores_takes_the_first_anchors():
    found = decode_one([[0.3], [0.3], [0.3]], [RIGHT, LEFT, [0.5, 0, 0.6, 0.1]], params_of(0.01, 0.45, 2, 200))
    np.testing.assert_allclose(found[:, 2], [0.6, 0], rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_nothing_found_and_boxes_without_area():
    assert decode_one([[0.0]], [LEFT]).shape == (0, 6)
    assert len(decode_one([[0.9], [0.8]], [[0.5, 0.5, 0.5, 0.5]] * 2)) == 2


def test_images_of_a_batch_are_independent():
    prob, boxes = random_answer(1, images=3)
    together = decode(prob, boxes, PARAMS)
    for index in range(3):
        alone = decode(prob[index : index + 1], boxes[index : index + 1], PARAMS)[0]
        np.testing.assert_array_equal(together[index], alone)


@given(
    st.integers(0, 10**6), st.sampled_from([0.0, 0.01, 0.3]), st.floats(0, 1), st.integers(1, 30), st.integers(1, 60)
)
@settings(deadline=None, max_examples=60)
def test_equal_to_the_definition(seed, score, nms, topk, keep):
    prob, boxes = random_answer(seed)
    params = params_of(score, nms, topk, keep)
    np.testing.assert_array_equal(decode(prob, boxes, params)[0], slow_decode(prob[0], boxes[0], params))


@pytest.mark.parametrize("keep", [20, 200, 5000])
def test_equal_to_the_definition_beyond_one_chunk(keep):
    prob, boxes = random_answer(7, anchors=500)
    params = params_of(0.001, 0.3, 400, keep)
    np.testing.assert_array_equal(decode(prob, boxes, params)[0], slow_decode(prob[0], boxes[0], params))


@given(
    st.integers(0, 10**6),
    st.sampled_from(["linear", "gaussian"]),
    st.sampled_from([0.01, 0.1]),
    st.sampled_from([5, 400]),
    st.sampled_from([7, 200]),
)
@settings(max_examples=60)
def test_soft_suppression_is_equal_to_the_definition(seed, kind, score, topk, keep):
    prob, boxes = random_answer(seed)
    params = params_of(score, 0.3, topk, keep, kind, 0.5)
    found, expected = decode(prob, boxes, params)[0], slow_soft(prob[0], boxes[0], params)
    # Scores that rounding makes equal, or that end at the limit, may come out otherwise.
    assert abs(len(found) - len(expected)) <= 1
    count = min(len(found), len(expected))
    np.testing.assert_allclose(found[:count, 1], expected[:count, 1], rtol=1e-4)


def test_soft_suppression_by_hand():
    """IoU of LEFT and LEFT_TOO is 0.95; RIGHT touches neither; classes leave each other alone."""
    prob, boxes = [[0.9, 0.0], [0.8, 0.0], [0.3, 0.2]], [LEFT, LEFT_TOO, RIGHT]
    linear = decode_one(prob, boxes, params_of(0.01, 0.45, 400, 200, "linear"))
    np.testing.assert_allclose(linear[:, :2], [[0, 0.9], [0, 0.3], [1, 0.2], [0, 0.8 * 0.05]], rtol=1e-4)
    gaussian = decode_one(prob, boxes, params_of(0.01, 0.45, 400, 200, "gaussian", 0.5))
    np.testing.assert_allclose(gaussian[:, 1], [0.9, 0.3, 0.2, 0.8 * np.exp(-(0.95**2) / 0.5)], rtol=1e-4)


def test_soft_suppression_drops_what_falls_to_the_score_limit():
    assert len(decode_one([[0.9], [0.8]], [LEFT, LEFT], params_of(0.01, 0.45, 400, 200, "linear"))) == 1


@given(st.integers(0, 10**6), st.sampled_from(["linear", "gaussian"]))
def test_what_holds_for_soft_suppression(seed, kind):
    prob, boxes = random_answer(seed)
    found = decode(prob, boxes, params_of(0.01, 0.45, 400, 200, kind))[0]
    hard = decode(prob, boxes, PARAMS)[0]
    assert (np.diff(found[:, 1]) <= 0).all()
    assert (found[:, 1] > 0.01).all()
    np.testing.assert_array_equal(found[:1], hard[:1])


@given(st.integers(0, 10**6))
@settings(deadline=None)
def test_what_holds_for_every_result(seed):
    prob, boxes = random_answer(seed)
    found = decode(prob, boxes, PARAMS)[0]
    assert (np.diff(found[:, 1]) <= 0).all()
    assert (found[:, 1] > PARAMS.score).all()
    assert len(found) <= PARAMS.keep
    for label in range(3):
        mine = found[found[:, 0] == label, 2:]
        assert all(slow_iou(a, b) <= PARAMS.nms + 1e-6 for i, a in enumerate(mine) for b in mine[:i])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1.0, 0.45, 400, 200), r"detection\.score_threshold=1\.0: "),
        ((-0.1, 0.45, 400, 200), r"detection\.score_threshold=-0\.1"),
        ((0.01, 1.5, 400, 200), r"detection\.nms_threshold=1\.5"),
        ((0.01, 0.45, 0, 200), r"detection\.pre_nms_topk=0"),
        ((0.01, 0.45, 400, -1), r"detection\.max_detections=-1"),
        ((0.01, 0.45, 400, 200, "hard"), r"detection\.soft_nms=hard: expected null, linear or gaussian"),
        ((0.01, 0.45, 400, 200, "gaussian", 0.0), r"detection\.sigma=0\.0"),
    ],
)
def test_senseless_parameters(values, message):
    with pytest.raises(UserError, match=message):
        params_of(*values)


def test_rows_of_multibox_detection():
    """Suppressed rows (-1) may lie anywhere, and the rest is unsorted when suppression is off."""
    none = [-1, 0.99, *LEFT]
    output = np.array([[[1, 0.2, *LEFT], none, [0, 0.8, *RIGHT]], [none, none, none]], np.float32)
    first, second = rows_to_detections(output)
    np.testing.assert_allclose(first, [[0, 0.8, *RIGHT], [1, 0.2, *LEFT]], rtol=1e-6)
    assert first.dtype == np.float32
    assert second.shape == (0, 6)


def test_no_engine_needed():
    modules = "ssd.ops.boxes, ssd.detection.draw, ssd.detection.results, ssd.detection.sources"
    code = f"import sys, {modules}; sys.exit('mxnet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
