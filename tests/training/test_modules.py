"""Batches of several shapes, and frozen statistics."""

import numpy as np
import pytest

from ssd.config.parts import trainer_config
from ssd.symbol import build_train
from ssd.training.trainer import Trainer
from ssd.utils.errors import UserError

CLASSES = ["a", "b", "c"]
SCALES = "augment.multi_scale.factors=[1.5]"  # 64 and 96 pixels


@pytest.mark.parametrize("devices", ["[0]", "[0,1]"])
@pytest.mark.parametrize("compat", ["null", "mxnet_ssd"])
def test_every_shape_trains_the_same_parameters(settings, noise, devices: str, compat: str, capfd) -> None:
    """A step on another shape is that of a network made for it."""
    overrides = [f"device.ids={devices}", f"compat={compat}", "optimizer.momentum=0.9"]
    trainer = Trainer(trainer_config(settings(SCALES, *overrides)), CLASSES, noise(64), 100)
    trainer.step(noise(64).batch(0))
    start = tuple({name: array.copy() for name, array in part.items()} for part in trainer.params())
    state, updates = trainer.state(), trainer.updates
    copies = {group: {name: array.copy() for name, array in part.items()} for group, part in state.items()}
    config = trainer_config(settings("data_shape=96", "data_shape.tier=small", *overrides))
    alone = Trainer(config, CLASSES, noise(96), 100, start)
    alone.restore(copies, updates, start)
    for seed in (1, 2):
        losses = [each.step(noise(96).batch(seed)).loss for each in (trainer, alone)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for found, wanted in zip(trainer.params(), alone.params(), strict=True):
        for name, array in wanted.items():
            np.testing.assert_allclose(found[name].asnumpy(), array.asnumpy(), atol=2e-5, err_msg=name)
    assert trainer.step(noise(64).batch(3)).finite
    assert trainer.updates == 4
    assert "allocate" not in capfd.readouterr().err  # the largest shape comes first, the others fit into its memory


def test_the_saved_graph_is_that_of_the_base_shape(settings, noise) -> None:
    with_scales = Trainer(trainer_config(settings(SCALES, "init.freeze=stage:1")), CLASSES, noise(64), 100)
    assert with_scales.symbol.tojson() == Trainer(trainer_config(settings()), CLASSES, noise(64), 100).symbol.tojson()


def test_a_shape_that_is_too_small_is_told_at_once(settings, noise) -> None:
    cfg = settings("backbone=vgg16_reduced", "data_shape=320", "augment.multi_scale.factors=[1.0,0.25]")
    with pytest.raises(UserError, match="at data shape 64x64: nothing is left"):
        Trainer(trainer_config(cfg), CLASSES, noise(320), 100)


@pytest.mark.parametrize("devices", ["[0]", "[0,1]"])
def test_frozen_statistics(settings, noise, devices: str) -> None:
    """The backbone's stay, and its normalizations use them in training; those of extra layers learn on."""
    cfg = settings("head=ssd_bn", f"device.ids={devices}")
    first = Trainer(trainer_config(cfg), CLASSES, noise(64), 100)
    for seed in range(3):
        first.step(noise(64).batch(seed))
    start = tuple({name: array.copy() for name, array in part.items()} for part in first.params())
    cfg.init.freeze_bn = True
    trainer = Trainer(trainer_config(cfg), CLASSES, noise(64), 100, start)
    losses = [trainer.step(noise(64).batch(seed)).loss for seed in range(6, 9)]
    assert np.isfinite(losses).all()
    for name, array in trainer.params()[1].items():
        same = np.array_equal(array.asnumpy(), start[1][name].asnumpy())
        assert same != name.startswith("multi_feat_"), name
    moved = trainer.params()[0]["stage1_1_conv2d_weight"].asnumpy() - start[0]["stage1_1_conv2d_weight"].asnumpy()
    assert np.abs(moved).max() > 0
    assert trainer.symbol.tojson() == first.symbol.tojson()
    assert "use_global_stats" not in build_train(cfg, 3).tojson()
