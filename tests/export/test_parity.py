"""Every backbone in every float32 format answers what MXNet answers."""

from pathlib import Path

import numpy as np
import pytest

from ssd.config.overrides import groups
from ssd.detection import Detector
from ssd.detection.open_model import open_model
from ssd.export.agreement import LIMIT, ModelUnderTest, agreement, compare_whole, resized
from ssd.export.formats import FORMATS, Calibration, open_graph
from ssd.mxnet_compat import mx

NONE = Calibration(lambda: [], "minmax")
# Fast ones; the others are the slow tests.
SMALL = {"small", "mobilenet_025", "mobilenet_050", "mobilenetv2_0.25", "squeezenet1.1", "resnet18_v2"}
SHAPES = {"resnet101": "512"}
ROUNDING = {"resnet101": 2e-4}  # MXNet itself is 1.3e-4 from what it answers in float64, with random weights


def check(model, name: str, folder: Path, images, limit: float = LIMIT) -> None:
    path = folder / FORMATS[name].name
    FORMATS[name].write(model, path, NONE)
    found = agreement(ModelUnderTest.of_model(model, mx.cpu()), ModelUnderTest.of_file(path, mx.cpu()), images)
    assert found.before <= limit, found
    assert not found.differing, found
    assert found.boxes > 100
    assert compare_whole(path, Detector(open_model(path, finished=True), mx.cpu(), 1), images) is None


@pytest.mark.parametrize("name", ["mxnet", "onnx"])
@pytest.mark.parametrize("compat", ["null", "mxnet_ssd"])
@pytest.mark.parametrize("backbone", sorted(SMALL))
def test_small_networks(random_model, images, backbone: str, compat: str, name: str, tmp_path: Path) -> None:
    model = random_model(f"backbone={backbone}", "data_shape=256", f"compat={compat}")
    check(model, name, tmp_path, images[:2])


@pytest.mark.parametrize("name", ["mxnet", "onnx"])
@pytest.mark.parametrize("overrides", [["compat=mxnet_ssd"], ["loader=record"], ["resize_mode=fit"]])
def test_images_of_many_sizes(random_model, images, overrides: list[str], name: str, tmp_path: Path) -> None:
    """Large ones too, which are averaged on both sides or on none."""
    model = random_model("backbone=small", "data_shape=128", *overrides)
    assert model.spec.antialias == (overrides == ["resize_mode=fit"])
    check(model, name, tmp_path, resized(images, model.spec.input))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mxnet", "onnx"])
@pytest.mark.parametrize("backbone", sorted(set(groups()["backbone"]) - SMALL))
def test_large_networks(random_model, images, backbone: str, name: str, tmp_path: Path) -> None:
    model = random_model(f"backbone={backbone}", f"data_shape={SHAPES.get(backbone, '300')}")
    check(model, name, tmp_path, images[:1], ROUNDING.get(backbone, LIMIT))


@pytest.mark.parametrize("overrides", ["data_shape=[128,192]", "resize_mode=fit"])
def test_other_inputs(random_model, images, overrides: str, tmp_path: Path) -> None:
    check(random_model("backbone=small", overrides), "onnx", tmp_path, images)


def test_a_bundle_becomes_onnx(random_model, images, tmp_path: Path) -> None:
    model = random_model("backbone=small", "data_shape=128")
    FORMATS["mxnet"].write(model, tmp_path / "bundle", NONE)
    check(open_model(tmp_path / "bundle"), "onnx", tmp_path, images)
    assert open_graph(open_model(tmp_path / "bundle")).list_outputs() == ["cls_prob_output", "boxes_output"]


@pytest.mark.parametrize(
    ("backbone", "method"),
    [*(("small", method) for method in ("minmax", "entropy", "percentile")), ("mobilenetv2_0.25", "minmax")],
)
@pytest.mark.parametrize("name", ["int8", "onnx_int8"])
def test_eight_bits_are_near(random_model, images, name: str, backbone: str, method: str, tmp_path: Path) -> None:
    model = random_model(f"backbone={backbone}", "data_shape=128")
    trained = ModelUnderTest.of_model(model, mx.cpu())
    path = tmp_path / FORMATS[name].name
    calibration = Calibration(lambda: [trained.opened.preprocess(images)], method)
    FORMATS[name].write(model, path, calibration)
    exported = ModelUnderTest.of_file(path, mx.cpu())
    data = (detector.preprocess(images) for detector in (trained.opened, exported.opened))
    pairs = zip(trained.opened.forward(next(data)), exported.opened.forward(next(data)), strict=True)
    difference = max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
    assert 1e-6 < difference < 0.3  # entropy cuts much off so few and so uniform images
