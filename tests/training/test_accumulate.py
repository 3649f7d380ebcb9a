"""Batches that are run in several passes."""

import re
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from ssd.config.parts import trainer_config
from ssd.mxnet_compat import mx
from ssd.tracking import Events, Writer
from ssd.training.monitor import Monitor
from ssd.training.trainer import Trainer

CLASSES = ["a", "b", "c"]
FEATURE = "stage3_2_relu"


def without_batch_statistics(cfg: DictConfig, passes: int) -> DictConfig:
    """Every image by itself: normalization with running statistics, and so many passes."""
    cfg = cfg.copy()
    cfg.init.freeze_bn = True
    cfg.training.accumulate = passes
    return cfg


def trained(cfg: DictConfig, batches: Any, steps: int = 4) -> tuple[list[float], Trainer]:
    mx.random.seed(7)
    trainer = Trainer(trainer_config(cfg), CLASSES, batches, 100)
    return [trainer.step(batches.batch(seed), seed).loss for seed in range(steps)], trainer


def values(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: array.asnumpy() for part in trainer.params() for name, array in part.items()}


def assert_same(found: Trainer, expected: Trainer) -> None:
    wanted = values(expected)
    for name, array in values(found).items():
        np.testing.assert_allclose(array, wanted[name], atol=2e-6, err_msg=name)


@pytest.mark.parametrize(
    "overrides", [[], ["loss.classification=focal"], ["training.ema=0.9", "optimizer=adam"]], ids=str
)
@pytest.mark.parametrize(("devices", "passes"), [("[0]", 2), ("[0]", 4), ("[0,1]", 2)])
def test_several_passes_are_one_step(settings, noise, overrides: list[str], devices: str, passes: int) -> None:
    """Divided by the positives of the whole batch, which the passes share unevenly."""
    cfg = settings(f"device.ids={devices}", "optimizer.learning_rate=0.001", *overrides)
    losses, whole = trained(without_batch_statistics(cfg, 1), noise(64))
    same, parts = trained(without_batch_statistics(cfg, passes), noise(64))
    assert same == pytest.approx(losses, rel=1e-5)
    assert_same(parts, whole)
    start = values(trained(cfg, noise(64), 0)[1])
    assert max(np.abs(array - start[name]).max() for name, array in values(parts).items()) > 1e-3  # it did learn
    assert parts.updates == whole.updates == 4


def test_a_pass_holds_its_part_of_the_images(settings, noise) -> None:
    trainer = Trainer(trainer_config(settings("training.accumulate=2", "device.ids=[0,1]")), CLASSES, noise(64), 100)
    module = trainer.module.module
    assert [described.shape[0] for described in module.data_shapes + module.label_shapes] == [2, 2]
    assert {executor.arg_dict["data"].shape[0] for executor in module._exec_group.execs} == {1}


@pytest.mark.parametrize("devices", ["[0]", "[0,1]"])
def test_compat_averages_over_passes_as_over_devices(settings, noise, devices: str) -> None:
    """The graph divides by what learns in a pass: of passes over the same image the mean is that of one."""
    batches = noise(64)
    batch = batches.batch(0)
    for array in (*batch.data, *batch.label):
        for image in range(1, 4):
            array[image] = array[0]
    cfg = settings("compat=mxnet_ssd", f"device.ids={devices}")
    trainers = []
    for passes in (1, 2):
        mx.random.seed(7)
        trainers.append(Trainer(trainer_config(without_batch_statistics(cfg, passes)), CLASSES, batches, 100))
        assert trainers[-1].step(batch).finite
    assert_same(trainers[1], trainers[0])
    assert trainers[1].module.gradient_scale == pytest.approx(0.5 / len(trainers[1].devices))


def test_every_shape_in_passes(settings, noise) -> None:
    cfg = settings("augment.multi_scale.factors=[1.5]", "optimizer.momentum=0.9")
    _, whole = trained(without_batch_statistics(cfg, 1), noise(64), 1)
    _, parts = trained(without_batch_statistics(cfg, 2), noise(64), 1)
    for number, side in enumerate((96, 64, 96)):
        for trainer in (whole, parts):
            assert trainer.step(noise(side).batch(number), number).finite
    assert_same(parts, whole)


@pytest.mark.parametrize("image", [0, -1])
def test_a_pass_that_is_not_finite_skips_the_step_and_nothing_after_it(settings, noise, image: int) -> None:
    cfg = settings("training.accumulate=2", "guard.non_finite=skip")  # with statistics of its batches
    _, trainer = trained(cfg, noise(64), 2)
    _, untouched = trained(cfg, noise(64), 2)
    broken = noise(64).batch(5)
    broken.data[0][image] = 3e38
    assert not trainer.step(broken, 2).finite
    assert_same(trainer, untouched)
    losses = [each.step(noise(64).batch(6), 3).loss for each in (trainer, untouched)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert_same(trainer, untouched)


class Curious(Writer):
    """Keeps the last arrays it is reported."""

    def __init__(self) -> None:
        self.heard: dict[str, np.ndarray] = {}

    def wants_histograms(self, step: int) -> re.Pattern[str] | None:
        return re.compile(f"^activations/{FEATURE}$|^gradients/.*conv2d_weight")

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        self.heard[tag] = values


@pytest.mark.parametrize("devices", ["[0]", "[0,1]"])
def test_histograms_are_of_all_passes(settings, noise, loop_steps, devices: str) -> None:
    heard = []
    for passes in (1, 2):
        mx.random.seed(7)
        cfg = without_batch_statistics(settings(f"device.ids={devices}"), passes)
        trainer, curious = Trainer(trainer_config(cfg), CLASSES, noise(64), 100), Curious()
        events = Events({"curious": curious})
        loop_steps(trainer, [Monitor(trainer, events)], events, [noise(64).batch(number) for number in range(2)])
        heard.append(curious.heard)
    assert heard[0].keys() == heard[1].keys()
    for tag, array in heard[0].items():
        wanted, found = (np.sort(each) if tag.startswith("act") else each for each in (array, heard[1][tag]))
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-4, err_msg=tag)
