"""Parameter files of the original mxnet-ssd are understood by what the configuration says."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ssd.checkpoint.model import Model
from ssd.config.compose import compose
from ssd.config.parts import network_config
from ssd.detection import Detector
from ssd.importers.mxnet_ssd import class_names, released_model, renamed, to_current, to_legacy
from ssd.mxnet_compat import mx
from ssd.symbol import build_test, build_train
from ssd.utils.errors import UserError

VOC = compose(["dataset=voc07"]).dataset.classes
CURRENT_TO_LEGACY = {
    "conv1_1_weight": "conv1_1_weight",
    "relu4_3_scale": "relu4_3_scale",
    "relu4_3_cls_pred_conv_weight": "relu4_3_cls_pred_conv_weight",
    "fc6_weight": "conv6_weight",
    "fc7_bias": "conv7_bias",
    "multi_feat_2_conv_1x1_conv_weight": "conv8_1_weight",
    "multi_feat_2_conv_3x3_conv_bias": "conv8_2_bias",
    "multi_feat_5_conv_3x3_conv_weight": "conv11_2_weight",
    "multi_feat_2_conv_3x3_relu_cls_pred_conv_weight": "relu8_2_cls_pred_conv_weight",
    "multi_feat_5_conv_3x3_relu_loc_pred_conv_bias": "relu11_2_loc_pred_conv_bias",
}


@pytest.fixture(scope="session")
def oracle(shared: Path, module_at: Callable[[Path], ModuleType]) -> ModuleType:
    return module_at(shared / "oracle" / "oracle_inputs.py")


def config(path: Path, *words: str) -> Any:
    return compose([f"model={path}", "compat=mxnet_ssd", "device=cpu", *words])


def opened(cfg: Any) -> Model | None:
    return released_model(cfg.model, network_config(cfg), cfg.dataset.get("classes"))


def random_params(symbol: Any, size: int, values: Callable[[str, tuple[int, ...]], np.ndarray]) -> dict[str, Any]:
    shapes, _, aux = symbol.infer_shape(data=(1, 3, size, size))
    names = {f"arg:{name}": (name, shape) for name, shape in zip(symbol.list_arguments(), shapes, strict=True)}
    names |= {f"aux:{name}": (name, s) for name, s in zip(symbol.list_auxiliary_states(), aux, strict=True)}
    return {key: mx.nd.array(values(*pair)) for key, pair in names.items() if pair[0] not in ("data", "label")}


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(len(name)).normal(0, 0.05, shape).astype(np.float32)


def small_file(folder: Path, classes: int = 20, **files: Any) -> Path:
    """A parameter file of a narrow network as the original names it; files: symbol="train" or "test" beside it."""
    cfg = compose(["compat=mxnet_ssd", "backbone=mobilenet_025", "data_shape=128"])
    mx.nd.save(str(folder / "ssd_x-0007.params"), random_params(build_test(cfg, classes), 128, noise))
    if files:
        build = build_train if files["symbol"] == "train" else build_test
        build(cfg, classes).save(str(folder / "ssd_x-symbol.json"))
    return folder / "ssd_x-0007.params"


NARROW = ("backbone=mobilenet_025", "data_shape=128")


@pytest.mark.parametrize(("current", "legacy"), CURRENT_TO_LEGACY.items())
def test_the_two_ways_of_naming(current: str, legacy: str) -> None:
    assert to_legacy(current) == legacy
    assert to_current(legacy) == current
    assert to_current(current) == current


def test_every_parameter_of_the_network_for_300_has_a_legacy_name() -> None:
    current, legacy = (
        set(build_test(compose([f"backbone={name}", "data_shape=300", "compat=mxnet_ssd"]), 20).list_arguments())
        for name in ("vgg16_reduced", "legacy_vgg16")
    )
    assert {to_legacy(name) for name in current} == legacy
    assert {to_current(name) for name in legacy} == current


@pytest.mark.parametrize("symbol", [None, "train", "test"])
def test_classes_and_network_are_found_out(symbol: str | None, tmp_path: Path) -> None:
    files = {"symbol": symbol} if symbol else {}
    model = opened(config(small_file(tmp_path, **files), *NARROW))
    assert model is not None
    assert model.spec.classes == list(VOC)
    assert (model.spec.height, model.spec.compat) == (128, "mxnet_ssd")
    image = np.zeros((90, 120, 3), np.uint8)
    assert Detector(model, mx.cpu(), 1).predict([image])[0].shape[1] == 6


def test_all_graphs_of_a_network_give_the_same_boxes(tmp_path: Path) -> None:
    found = []
    for symbol in (None, "train", "test"):
        folder = tmp_path / str(symbol)
        folder.mkdir()
        model = opened(config(small_file(folder, **({"symbol": symbol} if symbol else {})), *NARROW))
        assert model is not None
        image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        found.append(Detector(model, mx.cpu(), 1).predict([image])[0])
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)
    np.testing.assert_allclose(found[2], found[0], atol=1e-4)


def test_other_numbers_of_classes_need_names(tmp_path: Path) -> None:
    file = small_file(tmp_path, classes=3)
    model = opened(config(file, *NARROW, "dataset.classes=[a,b,c]"))
    assert model is not None
    assert model.spec.classes == ["a", "b", "c"]
    with pytest.raises(UserError, match="tells 3 classes apart; name them"):
        class_names(compose(["dataset=voc07"]).dataset.classes, 3, file)


def test_files_that_speak_for_themselves_are_left_alone(tmp_path: Path) -> None:
    assert opened(config(tmp_path)) is None
    assert opened(config(tmp_path / "x.onnx")) is None


def test_what_does_not_fit_is_told_in_one_line(tmp_path: Path) -> None:
    file = small_file(tmp_path)
    with pytest.raises(UserError, match="add backbone=… data_shape=… compat=mxnet_ssd"):
        opened(compose([f"model={file}"]))
    with pytest.raises(UserError, match="has no relu4_3_cls_pred_conv_bias; it is no detector, or of another network"):
        opened(config(file, "backbone=vgg16_reduced", "data_shape=300"))
    arrays = mx.nd.load(str(file))
    removed = [name for name in arrays if "conv_7_" in name]
    for name in removed:
        del arrays[name]
    wrong = next(name for name in arrays if "multi_feat_3_conv_3x3_conv_weight" in name)
    arrays[wrong] = mx.nd.zeros((2, 2))
    mx.nd.save(str(file), arrays)
    model = opened(config(file, *NARROW))
    assert model is not None
    with pytest.raises(UserError) as caught:
        Detector(model, mx.cpu(), 1, str(file))
    text = str(caught.value)
    assert "\n" not in text
    assert "missing: conv_7_dw_conv2d_weight" in text
    assert f"and {len(removed) - 4} more" in text
    assert re.search(r"multi_feat_3_conv_3x3_conv_weight has shape \(2, 2\), its graph needs \(\d+", text)


def test_legacy_weights_start_a_training(caplog: pytest.LogCaptureFixture) -> None:
    symbol = build_train(compose(["backbone=vgg16_reduced", "data_shape=300"]), 3)
    have = {"conv6_weight": 1, "conv8_2_bias": 2, "conv1_1_bias": 3, "other": 4}
    with caplog.at_level(logging.INFO):
        args, _ = renamed((have, {}), symbol)
    assert args == {"fc6_weight": 1, "multi_feat_2_conv_3x3_conv_bias": 2, "conv1_1_bias": 3, "other": 4}
    assert "2 parameters renamed" in caplog.text


@pytest.mark.parametrize("legacy", [False, True])
def test_the_published_network_under_either_name_gives_the_original_s_boxes(
    legacy: bool, shared: Path, oracle: ModuleType, tmp_path: Path
) -> None:
    check_detections("vgg16_reduced", 300, (shared, oracle, tmp_path), legacy)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet50", "mobilenet"])
def test_other_published_networks(backbone: str, shared: Path, oracle: ModuleType, tmp_path: Path) -> None:
    check_detections(backbone, 512, (shared, oracle, tmp_path), False)


def check_detections(backbone: str, size: int, places: tuple[Path, ModuleType, Path], legacy: bool) -> None:
    shared, oracle, folder = places
    words = (f"backbone={backbone}", f"data_shape={size}")
    arrays = random_params(build_test(compose([*words, "compat=mxnet_ssd"]), 20), size, oracle.make_param)
    if legacy:
        arrays = {f"arg:{to_legacy(name[4:])}": array for name, array in arrays.items()}
        assert "arg:conv11_2_weight" in arrays
    file = folder / f"ssd_{backbone}-0000.params"
    mx.nd.save(str(file), arrays)
    model = opened(config(file, *words))
    assert model is not None
    found = Detector(model, mx.cpu(), 1).predict_batch(oracle.make_input((1, 3, size, size)))[0]
    wanted = dict(np.load(shared / "oracle" / f"{backbone}_{size}.npz"))["valid_det"]
    ours, theirs = (rows[np.lexsort(rows.T[::-1].round(3))] for rows in (found, wanted))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
