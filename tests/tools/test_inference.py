import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "benchmarks"


def test_work_of_a_network_is_that_of_its_convolutions(module_at, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr(sys, "path", [*sys.path, str(TOOLS)])
    inference = module_at(TOOLS / "inference.py")
    parity = module_at(TOOLS / "parity.py")
    model = parity.random_model("backbone=vgg16_reduced", "data_shape=300")
    # Liu et al. 2016 give no figure; VGG-16's thirteen convolutions at 224 pixels have 30.7 G (Simonyan & Zisserman),
    # at 300 x 300 (300 / 224)^2 of it, and the rest of SSD300 adds conv6, conv7, the extra layers and the predictors.
    assert inference.flops(model) == pytest.approx(62.7e9, rel=0.02)
