import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ssd.evaluation.thresholds import FIXED, Thresholds, choose_thresholds, exact, rounded_down

SCORES = st.one_of(st.floats(0, 1, width=32), st.floats(0, 1))


@given(SCORES)
def test_a_copied_threshold_keeps_the_detection_it_stands_on(score):
    """Whatever the precision in which the score and the copied text are compared."""
    assert float(exact(score)) == score
    assert np.float32(score) >= np.float32(exact(np.float32(score)))
    assert np.float64(np.float32(score)) >= float(exact(np.float32(score)))


@given(SCORES, st.integers(1, 8))
def test_rounded_down_is_never_more_and_less_than_one_digit_off(score, digits):
    text = rounded_down(score, digits)
    assert score - 10.0**-digits <= float(text) <= score
    assert len(text.partition(".")[2]) == digits


def test_rounding_to_the_nearest_would_drop_it():
    score = float(np.float32(0.7))  # 0.699999988...
    assert float(f"{score:.6g}") > score
    assert (exact(score), rounded_down(score, 4)) == ("0.699999988079071", "0.6999")
    assert rounded_down(float("nan"), 4) == "–"


def test_where_thresholds_come_from():
    voc = {"precision": [np.array([1.0, 0.5])], "recall": [np.array([1.0, 1.0])], "scores": [np.array([0.7, 0.2])]}
    chosen = choose_thresholds(voc, "val", None)
    assert (chosen.scores.tolist(), chosen.source) == ([0.7], "val")
    assert chosen.optimistic("val")
    assert "this very split: optimistic" in chosen.describe("val")
    assert not chosen.optimistic("test")
    assert chosen.describe("test") == "the score of its best F1 on val"
    fixed = choose_thresholds(voc, "val", 0.25)
    assert fixed == Thresholds(fixed.scores, FIXED)
    assert fixed.describe("val") == "metric.threshold=0.25"
    assert not fixed.optimistic("val")
