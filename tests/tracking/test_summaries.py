import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from ssd.evaluation import evaluate_voc
from ssd.tracking.summaries import clean, counts_at_thresholds, histogram, hyper_parameters, session_end, session_start


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


finite_arrays = arrays.arrays(
    np.float32, st.integers(1, 300), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@given(finite_arrays)
def test_histogram_counts_every_value_once(values):
    found = histogram(values)
    assert (found.min, found.max, found.num) == (values.min(), values.max(), len(values))
    limits, counts = np.array(found.bucket_limit), np.array(found.bucket)
    assert len(limits) == len(counts)
    assert (np.diff(limits) > 0).all()
    assert counts.sum() == len(values)
    for limit, total in zip(limits, np.cumsum(counts), strict=True):
        assert total == (values.astype(np.float64) <= limit).sum()


def test_histogram_keeps_the_percentiles_of_a_narrow_peak():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1e-4, 10_000), [-5.0, 5.0]]).astype(np.float32)
    found = histogram(values)
    share = np.cumsum(found.bucket) / found.num
    for percentile in (7, 16, 31, 69, 84, 93):  # those of TensorBoard's distributions
        assert np.interp(percentile / 100, share, found.bucket_limit) == pytest.approx(
            np.percentile(values, percentile), abs=1e-5
        )


CONFIG = {
    "backbone": {"name": "small", "network": {"_target_": "ssd.x", "filters": [16, 32]}, "heads": {"small": {"a": 1}}},
    "head": {"min_filter": 128},
    "data_shape": {"name": "128", "height": 128},
    "optimizer": {"name": "adam", "learning_rate": 0.003, "clip_gradient": None},
    "detection": {"flip": False},
    "seed": 0,
}
EXPECTED = {"backbone": "small", "data_shape": "128", "optimizer": "adam", "optimizer.learning_rate": 0.003,
            "detection.flip": False, "seed": 0}  # fmt: skip


def test_hyper_parameters_are_what_was_chosen():
    assert dict(hyper_parameters(CONFIG)) == EXPECTED


def test_session():
    (start,) = session_start(CONFIG).value
    assert start.tag == "_hparams_/session_start_info"
    found = HParamsPluginData.FromString(start.metadata.plugin_data.content).session_start_info.hparams
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()} == EXPECTED
    for finished, status in ((True, 1), (False, 2)):
        (end,) = session_end(finished).value
        assert HParamsPluginData.FromString(end.metadata.plugin_data.content).session_end_info.status == status
