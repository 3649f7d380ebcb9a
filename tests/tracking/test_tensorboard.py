import logging

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from ssd.evaluation import evaluate_voc
from ssd.tracking.tensorboard import Monitoring, TensorBoard

RED = np.full((6, 8, 3), (255, 0, 0), np.uint8)


@pytest.fixture
def board(run):
    """What TensorBoard sees of a small run."""
    writer = TensorBoard(folder="tensorboard", curve_points=11, monitor=Monitoring(interval=10, pattern="^weights"))
    writer.start(run)
    writer.step(1, 10, {"train/loss": 3.0, "train/learning_rate": np.float32(0.5)})
    writer.step(1, 20, {"train/loss": 2.0, "train/learning_rate": 0.25})
    writer.image("val/sample_0", RED, 20)
    writer.curve("val/pr/cat", np.array([1, 0.5, 2 / 3]), np.array([0.25, 0.25, 0.5]), np.array([0.9, 0.5, 0.5]), 4, 20)
    writer.epoch(1, 20, {"train/loss": 2.5, "val/map_11pt": 0.5, "val/ap_11pt/traffic light": 0.5,
                         "val/ap_11pt/cat": float("nan")})  # fmt: skip
    writer.close("finished", {})
    assert writer.where() == f"tensorboard --logdir {run.folder / 'tensorboard'}"
    return EventAccumulator(str(run.folder / "tensorboard")).Reload()


def test_scalars(board):
    def series(tag):
        return [(event.step, event.value) for event in board.Scalars(tag)]

    assert series("train/loss") == [(10, 3.0), (20, 2.0)]
    assert series("train/learning_rate") == [(10, 0.5), (20, 0.25)]
    assert series("train_epoch/loss") == [(20, 2.5)]
    assert series("val/map_11pt") == [(20, 0.5)]
    assert series("val/ap_11pt/traffic_light") == [(20, 0.5)]
    assert series("train/epoch") == [(10, 1.0), (20, 1.0), (20, 1.0)]
    assert "val/ap_11pt/cat" not in board.Tags()["scalars"]


def test_image_can_be_decoded(board):
    (event,) = board.Images("val/sample_0")
    assert (event.step, event.width, event.height) == (20, 8, 6)
    decoded = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    np.testing.assert_allclose(decoded, RED, atol=2)


def test_pr_curve(board):
    (event,) = board.Tensors("val/pr/cat")
    assert event.step == 20
    found, false, _, missed, precision, recall = make_ndarray(event.tensor_proto)
    np.testing.assert_array_equal(found, [2] * 6 + [1] * 4 + [0])
    np.testing.assert_array_equal(false, [1] * 6 + [0] * 4 + [0])
    np.testing.assert_array_equal(missed, 4 - found)
    np.testing.assert_allclose(precision, [2 / 3] * 6 + [1] * 4 + [0], rtol=1e-6)
    np.testing.assert_allclose(recall, found / 4, rtol=1e-6)
    assert board.SummaryMetadata("val/pr/cat").plugin_data.plugin_name == "pr_curves"


def test_configuration_is_text(board):
    (event,) = board.Tensors("config/text_summary")
    assert b"device:\n  name: cpu" in event.tensor_proto.string_val[0]


def test_names_of_classes_cause_no_chatter(run, caplog):
    writer = TensorBoard(folder="tensorboard", curve_points=11, monitor=Monitoring(interval=10, pattern="^weights"))
    writer.start(run)
    with caplog.at_level(logging.INFO):
        writer.epoch(1, 20, {"val/ap_11pt/traffic light": 0.5, "val/ap_11pt/cat": float("nan")})
        writer.image("a picture", RED, 20)
    writer.close("finished", {})
    assert caplog.messages == []


@given(st.data())
def test_counts_agree_with_counting(data):
    hits = np.array(data.draw(st.lists(st.booleans(), max_size=30)), bool)
    scores = np.sort(np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(hits), max_size=len(hits)))))[::-1]
    positives = int(hits.sum()) + data.draw(st.integers(0, 5))
    with np.errstate(invalid="ignore"):
        recall = np.cumsum(hits) / np.float64(positives)  # nan where there is nothing to find
    found, false, _, missed, precision, _ = counts_at_thresholds(recall, scores, positives, 11)
    for k, threshold in enumerate(np.linspace(0, 1, 11)):
        above = scores >= threshold
        assert (found[k], false[k]) == (hits[above].sum(), (~hits[above]).sum())
        assert found[k] + missed[k] == positives
        assert precision[k] == (hits[above].mean() if above.any() else 0)


def test_counts_of_an_evaluation():
    """One object found at 0.8, one missed, one false alarm at 0.6; a detection on a difficult object does not count."""
    truth = [np.array([[0, 0, 0, 10, 10, 0], [0, 50, 50, 60, 60, 0], [0, 80, 80, 90, 90, 1]], np.float32)]
    found = [np.array([[0, 0.9, 80, 80, 90, 90], [0, 0.8, 0, 0, 10, 10], [0, 0.6, 30, 30, 40, 40]], np.float32)]
    result = evaluate_voc(truth, found, num_classes=1)
    positives = int(result["positives"][0])
    counts = counts_at_thresholds(result["recall"][0], result["scores"][0], positives, 5)  # 0, .25, .5, .75, 1
    np.testing.assert_array_equal(counts[:2], [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]])


def test_clean():
    assert clean("val/ap_11pt/traffic light (red)") == "val/ap_11pt/traffic_light__red_"
