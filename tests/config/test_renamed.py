"""Names of earlier versions: every one leads to something that exists."""

import importlib

import pytest

from ssd.config.renamed import TARGETS, current_config, current_override


@pytest.mark.parametrize("target", TARGETS.values())
def test_targets_exist(target: str) -> None:
    module, _, name = target.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)


def test_targets_of_a_configuration() -> None:
    old = {
        "dataset": {"_target_": "ssd.data.parts.Concat", "parts": [{"_target_": "ssd.data.voc.VOC", "root": "x"}]},
        "logger": {"csv": {"_target_": "ssd.tracking.files.StepsCsv"}},
        "source": "ssd.data.voc.VOC",
    }
    assert current_config(old) == {
        "dataset": {
            "_target_": "ssd.data.datasets.concat.Concat",
            "parts": [{"_target_": "ssd.data.datasets.voc.VOC", "root": "x"}],
        },
        "logger": {"csv": {"_target_": "ssd.tracking.files.StepsCsv"}},
        "source": "ssd.data.voc.VOC",
    }


@pytest.mark.parametrize(
    ("old", "current"),
    [
        ("dataset._target_=ssd.data.voc.VOC", "dataset._target_=ssd.data.datasets.voc.VOC"),
        ("+dataset.parts.a={_target_:ssd.data.rec.Rec}", "+dataset.parts.a={_target_:ssd.data.datasets.rec.Rec}"),
        ("dataset._target_=mine.ssd.data.voc.VOC", "dataset._target_=mine.ssd.data.voc.VOC"),
        ("dataset._target_=ssd.data.voc.VOC2", "dataset._target_=ssd.data.voc.VOC2"),
        ("model=ssd.data.voc.VOC", "model=ssd.data.voc.VOC"),
    ],
)
def test_targets_of_overrides(old: str, current: str) -> None:
    assert current_override(old) == current
