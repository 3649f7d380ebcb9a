import json
from dataclasses import replace

import pytest

from ssd.runs.results import (
    COMPARED,
    Conditions,
    Results,
    key_of,
    measured_of,
    named,
    read_metrics,
    unlike,
    write_metrics,
)

VAL = Conditions("pets", "val", 90, 200, "0f", 0.5, None, {"val": 0.2, "seed": 0}, thresholds="val")
RESULTS = Results(
    "finished", None, "val", "best", 3, 120,
    {"val/map_11pt": 0.5, "val/ap_11pt/val/cat": float("nan"), "test/map_11pt": 0.25}, {"val": VAL},
)  # fmt: skip


def test_metrics_json():
    content = RESULTS.to_json("train")
    assert list(content.items())[:7] == [
        ("job", "train"), ("status", "finished"), ("reason", None), ("split", "val"), ("checkpoint", "best"),
        ("epoch", 3), ("step", 120),
    ]  # fmt: skip
    assert content["map_11pt"] == 0.5
    assert content["ap_11pt/val/cat"] is None
    assert content["test/map_11pt"] == 0.25
    assert content["measured"]["val"]["thresholds_optimistic"] is True
    assert measured_of(json.loads(json.dumps(content))) == {"val": VAL}


def test_the_headline_is_that_of_the_split_that_is_named():
    results = Results(split="test", values=named("test", {"map_11pt": 0.25}))
    assert results.flat() == {"map_11pt": 0.25}
    assert results.to_json("eval")["split"] == "test"


def test_what_is_known_of_a_checkpoint():
    assert RESULTS.standing == "best checkpoint, epoch 3, step 120"
    assert replace(RESULTS, checkpoint=None, epoch=None, step=None).standing == ""


def test_jobs_that_measure_no_split_say_what_they_are_and_how_they_ended(tmp_path):
    write_metrics(tmp_path, "benchmark", {"images_per_second/a": 2.0})
    assert read_metrics(tmp_path) == {
        "job": "benchmark", "status": "finished", "reason": None, "images_per_second/a": 2.0
    }  # fmt: skip
    write_metrics(tmp_path, "benchmark", {}, "out of memory")
    assert read_metrics(tmp_path) == {"job": "benchmark", "status": "failed", "reason": "out of memory"}


@pytest.mark.parametrize("content", [None, "{", "[1]", "7"])
def test_a_file_that_is_none(content, tmp_path):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    assert read_metrics(tmp_path) == {}


@pytest.mark.parametrize("metrics", [{}, {"measured": 1}, {"measured": {"val": {}}}, {"measured": {"val": 1}}])
def test_numbers_of_an_earlier_version(metrics):
    assert measured_of(metrics) == {}


CHANGES = {"split": "test", "images": 30, "fingerprint": "1e", "iou": 0.7, "compat": "mxnet_ssd"}


@pytest.mark.parametrize(
    ("name", "said"),
    [("split", "split (test, val)"), ("images", "number of images (30, 90)"), ("fingerprint", "images"),
     ("iou", "metric.iou (0.5, 0.7)"), ("compat", "metric.compat (mxnet_ssd, null)")],
)  # fmt: skip
def test_what_differs_is_said(name, said):
    other = replace(VAL, **{name: CHANGES[name]})
    assert unlike([VAL, other, VAL]) == said
    assert key_of(VAL) != key_of(other)


def test_all_that_is_compared_was_tried():
    assert set(CHANGES) == set(COMPARED)


def test_what_does_not_matter_for_comparing():
    other = replace(VAL, dataset="same, by another name", thresholds="metric.threshold", same_images="test")
    assert unlike([VAL, replace(other, holdout=None)]) is None
    assert unlike([]) is None
    assert unlike([None, None]) is None


def test_the_reason_behind_other_images_is_said():
    assert unlike([VAL, replace(VAL, fingerprint="1", dataset="cars")]) == "images; dataset (cars, pets)"
    other = replace(VAL, fingerprint="1", holdout={"val": 0.2, "seed": 1})
    assert unlike([VAL, other]) == "images; dataset.holdout"
    assert unlike([VAL, None]) == "how they were measured is not recorded for some"
    three = unlike([VAL, replace(VAL, fingerprint="1"), replace(VAL, split="test", images=3)])
    assert three == "split (test, val); number of images (3, 90); images"


@pytest.mark.parametrize("change", [{"images": "4"}, {"dataset": None}, {"fingerprint": [1]}, {"compat": {}}])
def test_conditions_of_another_kind_are_unknown(change):
    content = RESULTS.to_json("train")
    content["measured"]["val"] |= change
    assert measured_of(content) == {}
