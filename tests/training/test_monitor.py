"""What is reported of weights, gradients and activations, and that telling it changes nothing."""

import logging
import re
from collections.abc import Callable

import numpy as np
import pytest
from omegaconf import DictConfig

from ssd.config.compose import compose
from ssd.config.parts import trainer_config
from ssd.mxnet_compat import mx
from ssd.tracking import Events, Writer
from ssd.training.monitor import HISTOGRAM_SAMPLES, Monitor, sample
from ssd.training.trainer import Trainer

CLASSES = ["a", "b"]
BATCH = 8
FEATURE = "stage3_2_relu"
CONV = "stage1_1_conv2d"


class Batches:
    """Reproducible batches of noise, an object in each image."""

    provide_data = [mx.io.DataDesc("data", (BATCH, 3, 64, 64))]
    provide_label = [mx.io.DataDesc("label", (BATCH, 1, 6))]

    @staticmethod
    def batch(seed: int) -> mx.io.DataBatch:
        rng = np.random.default_rng(seed)
        low = rng.uniform(0, 0.5, (BATCH, 1, 2))
        label = np.concatenate(
            [
                rng.integers(2, size=(BATCH, 1, 1)),
                low,
                low + rng.uniform(0.2, 0.5, (BATCH, 1, 2)),
                np.zeros((BATCH, 1, 1)),
            ],
            2,
        )
        return mx.io.DataBatch([mx.nd.array(rng.normal(size=(BATCH, 3, 64, 64)))], [mx.nd.array(label)], pad=0)


def config(*overrides: str) -> DictConfig:
    return compose(["data_shape=64", "schedule=constant", "schedule.warmup=0", "optimizer=sgd", *overrides])


class Curious(Writer):
    """Wants the arrays of a pattern at every second step, and keeps them."""

    def __init__(self, pattern: str) -> None:
        self.pattern = re.compile(pattern)
        self.heard: dict[int, dict[str, np.ndarray]] = {}

    def wants_histograms(self, step):
        return self.pattern if step % 2 == 0 else None

    def histogram(self, tag, values, step):
        self.heard.setdefault(step, {})[tag] = values


Trained = Callable[..., tuple[Curious, Trainer, list[float]]]


@pytest.fixture
def trained(loop_steps) -> Trained:
    """trained(cfg, pattern, steps=4) -> a logger that wants it or nothing, the trainer, and the losses."""

    def run(cfg: DictConfig, pattern: str | None, steps: int = 4) -> tuple[Curious, Trainer, list[float]]:
        mx.random.seed(7)
        trainer = Trainer(trainer_config(cfg), CLASSES, Batches, 100)
        curious = Curious(pattern or "")
        events = Events({"curious": curious} if pattern else {})
        batches = [Batches.batch(step) for step in range(steps)]
        losses = loop_steps(trainer, [Monitor(trainer, events)], events, batches)
        return curious, trainer, [each.loss for each in losses]

    return run


def state(trainer: Trainer) -> dict[str, np.ndarray]:
    arg_params, aux_params = trainer.params()
    return {name: array.asnumpy() for name, array in {**arg_params, **aux_params}.items()}


@pytest.mark.parametrize(
    "overrides",
    [[], ["device.ids=[0,1]"], ["compat=mxnet_ssd"], ["optimizer=adam"]],
    ids=lambda overrides: " ".join(overrides),
)
def test_training_stays_the_same(overrides: list[str], trained: Trained) -> None:
    """With BatchNorm, whose statistics a second forward pass would move."""
    cfg = config(*overrides, "optimizer.learning_rate=0.001")
    _, alone, losses = trained(cfg, None)
    curious, watched, same_losses = trained(cfg, ".")
    assert same_losses == pytest.approx(losses, rel=1e-4)
    assert losses[0] != losses[-1]
    expected = state(alone)
    for name, values in state(watched).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5, err_msg=name)
    assert sorted(curious.heard) == [2, 4]


def test_everything_is_told_that_matches(trained: Trained) -> None:
    curious, trainer, _ = trained(config(), ".")
    tags = curious.heard[2].keys()
    parameters = set(trainer.module.parameters)
    for kind in ("weights", "gradients"):
        assert {tag.removeprefix(f"{kind}/") for tag in tags if tag.startswith(f"{kind}/")} == parameters
    assert {f"activations/{name}" for name in (CONV, FEATURE, "cls_prob", "multibox_target_loc_mask")} <= tags
    assert all(values.dtype == np.float32 and values.ndim == 1 for values in curious.heard[2].values())


@pytest.mark.parametrize("devices", ["[0]", "[0,1]"])
def test_values_are_those_of_the_step(devices: str, trained: Trained) -> None:
    pattern = f"^weights/{CONV}_weight|^gradients/{CONV}_weight|^activations/{FEATURE}$"
    cfg = config(f"device.ids={devices}", "optimizer.learning_rate=0.01", "optimizer.momentum=0", "optimizer.wd=0")
    curious, trainer, _ = trained(cfg, pattern, steps=2)
    before = trained(cfg, None, steps=1)[1].params()[0][f"{CONV}_weight"].asnumpy().ravel()
    heard = curious.heard[2]
    assert sorted(heard) == [f"activations/{FEATURE}", f"gradients/{CONV}_weight", f"weights/{CONV}_weight"]
    np.testing.assert_array_equal(
        heard[f"weights/{CONV}_weight"], trainer.params()[0][f"{CONV}_weight"].asnumpy().ravel()
    )
    # Plain gradient descent: a step is the learning rate times the gradient of the loss.
    np.testing.assert_allclose(
        before - 0.01 * heard[f"gradients/{CONV}_weight"], heard[f"weights/{CONV}_weight"], atol=1e-6
    )
    feature = heard[f"activations/{FEATURE}"]
    assert feature.size == BATCH * 64 * 8 * 8
    assert feature.min() == 0
    assert feature.max() > 0


def test_frozen_parameters_have_no_gradient(trained: Trained) -> None:
    tags = trained(config(f"init.freeze=^{CONV}"), "stage1_[12]_conv2d_weight", steps=2)[0].heard[2].keys()
    assert tags == {f"{kind}_conv2d_weight" for kind in ("weights/stage1_1", "weights/stage1_2", "gradients/stage1_2")}


def test_a_loss_that_is_not_finite_is_told_all_the_same(loop_steps) -> None:
    trainer = Trainer(trainer_config(config()), CLASSES, Batches, 100)
    curious = Curious("loc_pred")
    trainer.module.weights[f"{FEATURE}_loc_pred_conv_bias"][0][:] = np.inf
    before = state(trainer)
    events = Events({"curious": curious})
    assert not loop_steps(trainer, [Monitor(trainer, events)], events, [Batches.batch(0)], first=1)[0].finite
    assert {tag.partition("/")[0] for tag in curious.heard[2]} == {"activations", "gradients", "weights"}
    assert np.isposinf(curious.heard[2][f"activations/{FEATURE}_loc_pred_conv"]).all()
    for name, values in state(trainer).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)


def test_a_pattern_without_any_array_is_told_once(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert trained(config(), "^biases/")[0].heard == {}
    assert len(caplog.messages) == 1
    assert f"no array matches '^biases/'; they are named like weights/{CONV}_weight, activations/" in caplog.messages[0]


def test_large_arrays_are_sampled() -> None:
    values = np.random.default_rng(0).normal(size=(3, 2 * HISTOGRAM_SAMPLES)).astype(np.float32)
    found = sample(mx.nd.array(values))
    assert found.shape == (HISTOGRAM_SAMPLES,)
    assert np.isin(found, values).all()
    assert found.std() == pytest.approx(1, abs=0.02)
    assert len(np.unique(found)) > 0.8 * HISTOGRAM_SAMPLES
    np.testing.assert_array_equal(sample(mx.nd.array(values)), found)
    np.testing.assert_array_equal(sample(mx.nd.array(values[:, :5])), values[:, :5].ravel())
