"""Averaged weights against numpy; they are what is validated and saved."""

import numpy as np
import pytest

from ssd.config.parts import trainer_config
from ssd.mxnet_compat import mx
from ssd.training.trainer import Trainer

CLASSES = ["a", "b", "c"]


def arrays(params) -> dict[str, np.ndarray]:
    return {name: array.asnumpy().astype(np.float64) for part in params for name, array in part.items()}


@pytest.mark.parametrize("devices", ["[0]", "[0,1]"])
def test_equals_the_recursion(settings, noise, devices: str) -> None:
    """Weights and running statistics, those of several devices by their mean; decay (1 + t) / (10 + t) at first."""
    decay = 0.3
    config = trainer_config(settings(f"training.ema={decay}", f"device.ids={devices}"))
    trainer = Trainer(config, CLASSES, noise(64), 100)
    wanted = arrays(trainer.raw_params())
    for step in range(1, 6):
        trainer.step(noise(64).batch(step))
        rate = min(decay, (1 + step) / (10 + step))
        current = arrays(trainer.raw_params())
        wanted = {name: rate * value + (1 - rate) * current[name] for name, value in wanted.items()}
    found, raw = arrays(trainer.params()), arrays(trainer.raw_params())
    assert found.keys() == raw.keys()
    assert any(name.endswith("_moving_var") for name in found)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert any(np.abs(found[name] - raw[name]).max() > 1e-3 for name in found)


def test_off_the_last_weights_count(settings, noise) -> None:
    trainer = Trainer(trainer_config(settings()), CLASSES, noise(64), 100)
    trainer.step(noise(64).batch(0))
    assert trainer.ema is None
    assert "weights" not in trainer.state()
    for name, value in arrays(trainer.params()).items():
        np.testing.assert_array_equal(value, arrays(trainer.raw_params())[name])


def test_a_step_that_is_not_finite_is_not_averaged(settings, noise) -> None:
    trainer = Trainer(trainer_config(settings("training.ema=0.9")), CLASSES, noise(64), 100)
    before = arrays(trainer.params())
    batch = noise(64).batch(0)
    batch.data[0][0] = 3e38
    assert not trainer.step(batch).finite
    for name, value in arrays(trainer.params()).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("devices", ["[0]", "[0,1]"])
def test_goes_on_exactly_from_its_named_arrays(settings, noise, devices: str) -> None:
    """As checkpoints store them: averages as the parameters, what training goes on with among the states."""
    cfg = settings("training.ema=0.9", "optimizer.momentum=0.9", f"device.ids={devices}")
    mx.random.seed(1)
    whole = Trainer(trainer_config(cfg), CLASSES, noise(64), 100)
    for step in range(3):
        whole.step(noise(64).batch(step))
    params, state, updates = whole.params(), whole.state(), whole.updates
    copies = {group: {name: array.copy() for name, array in part.items()} for group, part in state.items()}
    weights = copies["weights"]
    start = tuple({name[4:]: array for name, array in weights.items() if name[:4] == kind} for kind in ("arg:", "aux:"))
    second = Trainer(trainer_config(cfg), CLASSES, noise(64), 100, start)
    second.restore(copies, updates, params)
    for step in range(3, 6):
        for trainer in (whole, second):
            trainer.step(noise(64).batch(step))
    for found, wanted in ((second.params(), whole.params()), (second.raw_params(), whole.raw_params())):
        for name, value in arrays(wanted).items():
            np.testing.assert_array_equal(arrays(found)[name], value, err_msg=name)
