"""What a checkpoint's decoding is overruled by."""

import pytest
from hydra.core.hydra_config import HydraConfig

from ssd.config.compose import compose
from ssd.jobs.common import ap_table, asked_for


def test_nothing_is_asked_by_the_default_configuration():
    assert asked_for(compose(["job=eval", "metric.iou=0.6"])) == {}


def test_what_differs_from_the_defaults_is_asked():
    cfg = compose(["job=eval", "detection.nms_threshold=0.6", "detection.soft_nms=linear", "compat=mxnet_ssd"])
    assert asked_for(cfg) == {"nms": 0.6, "soft_nms": "linear", "compat": "mxnet_ssd"}


def test_what_the_command_line_names_is_asked_even_if_it_is_the_default(monkeypatch: pytest.MonkeyPatch):
    task = ["compat=null", "detection.nms_threshold=0.45"]
    overrides = type("Overrides", (), {"overrides": type("Task", (), {"task": task})})
    monkeypatch.setattr(HydraConfig, "initialized", staticmethod(lambda: True))
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: overrides))
    assert asked_for(compose(["job=eval"])) == {"nms": 0.45, "compat": None}


def test_table_of_aps():
    values = {"ap_11pt/dog": 0.5, "ap_area/dog": 0.25, "map_11pt": 0.5, "map_area": 0.25}
    lines = ap_table(values, ["dog"])
    assert len(lines) == 3
    assert lines[1].split() == ["dog", "0.5000", "0.2500"]
