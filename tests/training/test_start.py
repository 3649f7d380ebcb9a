"""Taking weights over: by name and shape, and class by class."""

import logging
from pathlib import Path

import numpy as np
import pytest

from ssd.checkpoint.model import ModelSpec, attach_spec
from ssd.config.compose import compose
from ssd.config.parts import trainer_config
from ssd.mxnet_compat import mx
from ssd.symbol import build_train
from ssd.training.start import WeightSource, load_matching
from ssd.training.trainer import Trainer
from ssd.utils.errors import UserError

SHAPES = {"data": (4, 3, 64, 64), "label": (4, 3, 6)}
PREDICTOR = "stage3_2_relu_cls_pred_conv_weight"
CLASSES = ["dog", "cat", "bird"]


@pytest.fixture
def saved(tmp_path: Path, settings, noise) -> Path:
    """A checkpoint of a detector of CLASSES, on disk with its symbol; every number in it is another."""
    mx.random.seed(5)
    trainer = Trainer(trainer_config(settings()), CLASSES, noise(64), 100)
    spec = ModelSpec.from_config(settings(), CLASSES)
    (tmp_path / "x-symbol.json").write_text(attach_spec(trainer.symbol, spec).tojson())
    arg_params, aux_params = trainer.params()
    rng = np.random.default_rng(0)
    arrays = {f"arg:{name}": mx.nd.array(rng.normal(size=array.shape)) for name, array in arg_params.items()}
    arrays |= {f"aux:{name}": mx.nd.array(rng.uniform(1, 2, array.shape)) for name, array in aux_params.items()}
    mx.nd.save(str(tmp_path / "x-0001.params"), arrays)
    return tmp_path / "x-0001.params"


def started(saved: Path, settings, noise, classes: list[str], *overrides: str) -> tuple[dict, dict]:
    """(parameters of the new network, those of the file), as arrays."""
    trainer = Trainer(trainer_config(settings(f"init.weights={saved}", *overrides)), classes, noise(64), 100)
    have = {name[4:]: array.asnumpy() for name, array in mx.nd.load(str(saved)).items()}
    return {name: array.asnumpy() for part in trainer.params() for name, array in part.items()}, have


@pytest.mark.parametrize("mode", ["pretrained", "finetune"])
def test_the_same_classes_take_everything(saved: Path, settings, noise, mode: str) -> None:
    found, have = started(saved, settings, noise, CLASSES, f"init.mode={mode}")
    assert found.keys() == have.keys()
    for name, values in have.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def rows(weights: np.ndarray, classes: int) -> np.ndarray:
    """[anchors, C + 1, …]"""
    return weights.reshape(-1, classes + 1, *weights.shape[1:])


@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_finetuning_copies_the_rows_of_equal_names(saved: Path, settings, noise, kind: str) -> None:
    classes = ["horse", "bird", "dog", "fish", "cow"]
    found, have = started(saved, settings, noise, classes, "init.mode=finetune")
    name = PREDICTOR.replace("weight", kind)
    ours, theirs = rows(found[name], 5), rows(have[name], 3)
    for here, there in ((0, 0), (2, 3), (3, 1)):  # background, bird, dog
        np.testing.assert_array_equal(ours[:, here], theirs[:, there])
    for here in (1, 4, 5):
        assert np.abs(ours[:, here]).max() < 0.5  # Xavier's, not those of the file
        assert (np.abs(ours[:, here]).max() > 0) == (kind == "weight")
    np.testing.assert_array_equal(
        found["stage3_2_relu_loc_pred_conv_weight"], have["stage3_2_relu_loc_pred_conv_weight"]
    )


def test_classes_in_another_order_are_not_mixed_up(saved: Path, settings, noise) -> None:
    """The shapes are equal, so that a copy by name and shape would call dogs cats."""
    classes = ["cat", "dog", "bird"]
    found, have = started(saved, settings, noise, classes, "init.mode=finetune")
    np.testing.assert_array_equal(rows(found[PREDICTOR], 3), rows(have[PREDICTOR], 3)[:, [0, 2, 1, 3]])
    found, have = started(saved, settings, noise, classes, "init.mode=pretrained")
    assert np.abs(found[PREDICTOR]).max() < 0.5
    np.testing.assert_array_equal(found["stage1_1_conv2d_weight"], have["stage1_1_conv2d_weight"])


def test_everything_is_told(saved: Path, settings, noise, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    overrides = ["init.mode=finetune", "init.freeze=stage:2", "init.lr_mult.backbone=0.1", "head=ssd_bn"]
    started(saved, settings, noise, ["dog", "horse"], *overrides)
    said = [line.split() for line in caplog.messages]
    table = {line[0]: line[1:] for line in said if line and line[0] in ("backbone", "extras", "heads")}
    assert table["backbone"][-1] == "x0.1"
    assert table["backbone"][:2] == table["backbone"][2:4]  # all of it is loaded
    assert table["backbone"][6] != "0"
    assert table["extras"][4] != "0"  # batch normalizations that the file lacks
    assert any("6 class predictors: " in line and "rows loaded" in line for line in caplog.messages)
    assert "classes kept: dog" in caplog.text
    assert "unused          multi_feat_2_conv_1x1_conv_bias" in caplog.text


def test_a_shape_that_does_not_fit_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    graph = build_train(compose(["data_shape=64"]), 3)
    params = {"stage1_1_conv2d_weight": mx.nd.ones((2, 2)), "stage1_1_batchnorm_gamma": mx.nd.ones(16)}
    load_matching(graph, SHAPES, WeightSource("x.params", params, {}, None), CLASSES, by_class=False)
    assert "stage1_1_conv2d_weight" in caplog.text
    assert "shape (2, 2) in the file, (16, 3, 3, 3) here" in caplog.text


@pytest.mark.parametrize(
    ("source", "by_class", "part"),
    [
        (WeightSource("x.params", {"other": mx.nd.ones(1)}, {}, CLASSES), False, "none of its 1 parameters fits"),
        (WeightSource("x.params", {}, {}, None), True, "says nothing of its classes"),
    ],
)
def test_nothing_to_take_is_an_error(source: WeightSource, by_class: bool, part: str) -> None:
    with pytest.raises(UserError, match=part):
        load_matching(build_train(compose(["data_shape=64"]), 3), SHAPES, source, CLASSES, by_class)


def test_weights_must_be_named(settings, noise) -> None:
    with pytest.raises(UserError, match=r"init.mode=finetune: needs init.weights"):
        Trainer(trainer_config(settings("init.mode=finetune")), CLASSES, noise(64), 100)


def test_what_the_backbone_freezes_is_frozen_unless_from_scratch(saved: Path, settings, noise) -> None:
    for overrides, frozen in (["init.mode=scratch"], False), (["init.mode=pretrained", f"init.weights={saved}"], True):
        cfg = settings(*overrides)
        cfg.backbone.freeze = "^stage1_"
        module = Trainer(trainer_config(cfg), CLASSES, noise(64), 100).module.module
        assert bool(module._fixed_param_names) == frozen
