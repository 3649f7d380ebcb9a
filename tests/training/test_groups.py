"""Groups of parameters: what is frozen, how fast each learns, what decays."""

import logging

import numpy as np
import pytest

from ssd.config.compose import compose
from ssd.config.parts import trainer_config
from ssd.symbol import build_train
from ssd.training.groups import frozen_names, group_of, learning_rates, weight_decays
from ssd.training.trainer import Trainer
from ssd.utils.errors import UserError

SHAPES = {"data": (2, 3, 128, 128), "label": (2, 3, 6)}


def graph(*overrides: str):
    return build_train(compose(list(overrides)), 3)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("conv1_1_weight", "backbone"),
        ("stage1_1_batchnorm_gamma", "backbone"),
        ("multi_feat_2_conv_3x3_conv_weight", "extras"),
        ("multi_feat_2_conv_3x3_bn_moving_var", "extras"),
        ("relu4_3_scale", "extras"),
        ("multi_feat_2_conv_3x3_relu_cls_pred_conv_bias", "heads"),
        ("relu7_loc_pred_conv_weight", "heads"),
    ],
)
def test_group_of(name: str, group: str) -> None:
    assert group_of(name) == group


@pytest.mark.parametrize(
    ("stage", "last", "next_one"),
    [(1, "stage1_2_conv2d_weight", "stage2_1"), (2, "stage2_2_batchnorm_gamma", "stage3_1"), (9, "stage4_2", "multi")],
)
def test_freezing_up_to_a_stage(stage: int, last: str, next_one: str) -> None:
    names = frozen_names(graph(), f"stage:{stage}", SHAPES)
    assert any(name.startswith(last) for name in names)
    assert not any(name.startswith(next_one) for name in names)


def test_freezing_up_to_a_stage_of_a_network_with_pooling() -> None:
    """VGG's stages end before their pooling: 1/1 and 1/2 of the resolution are the layers that the original froze."""
    vgg = graph("backbone=vgg16_reduced", "data_shape=300")
    names = frozen_names(vgg, "stage:1", {"data": (1, 3, 300, 300), "label": (1, 3, 6)})
    assert {name[:5] for name in names} == {"conv1", "conv2"}


def test_freezing_all_but_the_heads() -> None:
    symbol = graph()
    names = set(frozen_names(symbol, "but_heads", SHAPES))
    rest = {name for name in symbol.list_arguments() if name not in names} - {"data", "label"}
    assert rest
    assert all("_pred_conv_" in name for name in rest)


@pytest.mark.parametrize(("freeze", "part"), [("^nothing_", "matches no parameter"), ("(", "not a regular expression"),
                         ("(a+)+$", "init.freeze=.* in too many ways")])  # fmt: skip
def test_freezing_nothing_is_an_error(freeze: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        frozen_names(graph(), freeze, SHAPES)


def test_rates_multiply_those_of_the_graph() -> None:
    cfg = compose(["init.lr_mult.backbone=0.1", "init.lr_mult.heads=3"])
    rates = learning_rates(build_train(cfg, 3), cfg.init.lr_mult)
    assert rates["stage1_1_conv2d_weight"] == pytest.approx(0.1)
    assert rates["multi_feat_2_conv_1x1_conv_weight"] == 1
    assert rates["stage3_2_relu_cls_pred_conv_weight"] == 3
    assert rates["stage3_2_relu_cls_pred_conv_bias"] == 6


def test_what_decays() -> None:
    vgg = graph("backbone=vgg16_reduced", "data_shape=300", "head=ssd_bn")
    some, every = weight_decays(vgg, "weights"), weight_decays(vgg, "all")
    assert (some["conv1_1_weight"], some["conv1_1_bias"], some["multi_feat_2_conv_1x1_bn_gamma"]) == (1, 0, 0)
    assert (every["conv1_1_weight"], every["conv1_1_bias"], every["multi_feat_2_conv_1x1_bn_gamma"]) == (1, 1, 1)
    assert some["relu4_3_scale"] == every["relu4_3_scale"] == pytest.approx(0.1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("which", ["weights", "all"])
@pytest.mark.parametrize("devices", ["[0]", "[0,1]"])
def test_decay_reaches_the_optimizer(settings, noise, optimizer: str, which: str, devices: str) -> None:
    """Of a batch without objects and without negatives nothing moves but by decay."""
    cfg = settings(f"optimizer={optimizer}", "optimizer.wd=0.5", f"training.weight_decay={which}",
                   "matching.min_negatives=0", "init.lr_mult.heads=0", f"device.ids={devices}")  # fmt: skip
    trainer = Trainer(trainer_config(cfg), ["a", "b", "c"], noise(64), 100)
    before = {name: array.asnumpy().copy() for name, array in trainer.params()[0].items()}
    batch = noise(64).batch(0)
    batch.label[0][:] = -1
    trainer.step(batch)
    moved = {name for name, array in trainer.params()[0].items() if np.abs(array.asnumpy() - before[name]).max() > 1e-7}
    assert "stage1_1_conv2d_weight" in moved
    assert ("stage1_1_batchnorm_gamma" in moved) == (which == "all")
    assert not any("_pred_conv_" in name for name in moved)  # their rate is 0


def test_a_rate_is_a_factor_on_the_step(settings, noise, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    steps = []
    for rate in (1.0, 0.25):
        cfg = settings(f"init.lr_mult.backbone={rate}", "optimizer.momentum=0", "optimizer.wd=0", "seed=1")
        trainer = Trainer(trainer_config(cfg), ["a", "b", "c"], noise(64), 100, steps[0][0] if steps else None)
        before = tuple({name: array.copy() for name, array in part.items()} for part in trainer.params())
        trainer.step(noise(64).batch(0))
        name = "stage1_2_conv2d_weight"
        steps.append((before, trainer.params()[0][name].asnumpy() - before[0][name].asnumpy()))
    np.testing.assert_allclose(steps[1][1], 0.25 * steps[0][1], rtol=1e-2, atol=1e-6)
