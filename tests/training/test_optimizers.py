"""Every optimizer of conf/optimizer against numpy, step by step, on a whole network: learning rate, schedule, warm-up,
factors on rate and weight decay, clipping, and the division by the positives all reach the parameters."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from ssd.config.overrides import groups
from ssd.config.parts import trainer_config
from ssd.mxnet_compat import mx
from ssd.training.groups import group_of, learning_rates, weight_decays
from ssd.training.optimizers import optimizer_name
from ssd.training.schedules import Schedule
from ssd.training.trainer import Trainer
from ssd.utils.errors import UserError

CLASSES = ["a", "b", "c"]
STEPS = 6
OVERRIDES = ["optimizer.wd=0.05", "optimizer.clip_gradient=0.02", "init.lr_mult.backbone=0.5", "init.lr_mult.extras=2",
         "schedule=step", "schedule.milestones=[0.6]", "schedule.warmup=0.4", "schedule.factor=0.2"]  # fmt: skip
# The rate anew, since the fixture has another.
MXNET_SSD = ["optimizer=sgd_mxnet_ssd", "optimizer.learning_rate=${ssd.mxnet_ssd_rate:0.004}",
             "matching.min_negatives=0"]  # fmt: skip

Array = np.ndarray
# (options of the optimizer, weight, gradient, rate, decay, state, number of the step) -> new weight
Rule = Callable[[DictConfig, Array, Array, float, float, dict[str, Any], int], Array]


def clipped(options: DictConfig, gradient: Array) -> Array:
    return np.clip(gradient, -options.clip_gradient, options.clip_gradient)


def sgd(options: DictConfig, weight: Array, grad: Array, rate: float, decay: float, state: dict, step: int) -> Array:
    gradient = clipped(options, grad) + decay * weight
    state["momentum"] = options.momentum * state.get("momentum", 0) - rate * gradient
    return weight + state["momentum"]


def adam(options: DictConfig, weight: Array, grad: Array, rate: float, decay: float, state: dict, step: int) -> Array:
    """Kingma & Ba 2015, section 2, the more efficient order."""
    gradient = clipped(options, grad + decay * weight)
    state["mean"] = options.beta1 * state.get("mean", 0) + (1 - options.beta1) * gradient
    state["square"] = options.beta2 * state.get("square", 0) + (1 - options.beta2) * gradient**2
    scale = np.sqrt(1 - options.beta2**step) / (1 - options.beta1**step)
    return weight - rate * scale * state["mean"] / (np.sqrt(state["square"]) + 1e-8)


def rmsprop(
    options: DictConfig, weight: Array, grad: Array, rate: float, decay: float, state: dict, step: int
) -> Array:
    gradient = clipped(options, grad + decay * weight)
    state["square"] = options.gamma1 * state.get("square", 0) + (1 - options.gamma1) * gradient**2
    return weight - rate * gradient / np.sqrt(state["square"] + 1e-8)


def adadelta(
    options: DictConfig, weight: Array, grad: Array, rate: float, decay: float, state: dict, step: int
) -> Array:
    """Zeiler 2012, algorithm 1, with a rate and decay as torch.optim.Adadelta has them."""
    gradient = clipped(options, grad) + decay * weight
    state["square"] = options.rho * state.get("square", 0) + (1 - options.rho) * gradient**2
    delta = np.sqrt(state.get("delta", 0) + options.epsilon) / np.sqrt(state["square"] + options.epsilon) * gradient
    state["delta"] = options.rho * state.get("delta", 0) + (1 - options.rho) * delta**2
    return weight - rate * delta


RULES: dict[str, Rule] = {"sgd": sgd, "sgd_mxnet_ssd": sgd, "adam": adam, "rmsprop": rmsprop, "adadelta": adadelta}
RATES = {"sgd": 0.05, "sgd_mxnet_ssd": 0.05, "adam": 0.01, "rmsprop": 0.01, "adadelta": 0.7}


def weights_of(trainer: Trainer) -> dict[str, Array]:
    return {name: array.asnumpy().astype(np.float64) for name, array in trainer.raw_params()[0].items()}


def gradients_of(trainer: Trainer) -> dict[str, Array]:
    """Of the loss, by name: summed over devices."""
    found = trainer.module.gradients.items()
    return {name: sum(each.asnumpy().astype(np.float64) for each in devices) for name, devices in found}


def test_each_has_its_rule() -> None:
    assert set(RULES) == set(groups()["optimizer"])


@pytest.mark.parametrize("devices", ["[0]", "[0,1]"])
@pytest.mark.parametrize("which", ["weights", "all"])
@pytest.mark.parametrize("name", RULES)
def test_every_key_applies_in_every_step(settings, noise, name: str, which: str, devices: str) -> None:
    overrides = [
        f"optimizer={name}",
        *OVERRIDES,
        f"optimizer.learning_rate={RATES[name]}",
        f"training.weight_decay={which}",
    ]
    cfg = settings(*overrides, f"device.ids={devices}")
    mx.random.seed(3)
    trainer = Trainer(trainer_config(cfg), CLASSES, noise(64), STEPS)
    rates = learning_rates(trainer.symbol, cfg.init.lr_mult)
    decays = weight_decays(trainer.symbol, which)
    assert len(set(rates.values())) > 3
    assert set(decays.values()) == {0.0, 1.0} if which == "weights" else {1.0}
    schedule = Schedule(trainer_config(cfg).schedule, RATES[name], STEPS)
    states: dict[str, dict[str, Any]] = {parameter: {} for parameter in rates}
    used, clips = [], 0
    for step in range(1, STEPS + 1):
        before = weights_of(trainer)
        batch = noise(64).batch(step)
        losses = trainer.backward(batch, step)
        gradients = {each: value * trainer.gradient_scale(losses) for each, value in gradients_of(trainer).items()}
        trainer.update(losses)
        trainer.end_step(losses)
        rate = schedule(step)
        assert trainer.learning_rate == pytest.approx(rate)
        used.append(rate)
        clips += sum(int((np.abs(value) > 0.02).sum()) for value in gradients.values())
        after = weights_of(trainer)
        for each, gradient in gradients.items():
            rule = RULES[name](
                cfg.optimizer, before[each], gradient, rate * rates[each], cfg.optimizer.wd * decays[each],
                states[each], step,
            )  # fmt: skip
            wanted = rule - before[each]
            moved = after[each] - before[each]
            # Where gradients of devices nearly cancel, Adam enlarges what their sum was rounded by.
            np.testing.assert_allclose(moved, wanted, rtol=2e-3, atol=2e-3 * np.abs(wanted).max() + 1e-7, err_msg=each)
    assert clips > 100
    assert len({round(rate, 9) for rate in used}) >= 3  # of warm-up, then two steps
    assert {group_of(each) for each in gradients} == {"backbone", "extras", "heads"}


@pytest.mark.parametrize("name", RULES)
def test_going_on_is_bit_for_bit_the_same(settings, noise, name: str) -> None:
    """Also where warm-up, schedule and the optimizer's own count of steps depend on how far the run is."""
    cfg = settings(f"optimizer={name}", *OVERRIDES)
    mx.random.seed(3)
    whole = Trainer(trainer_config(cfg), CLASSES, noise(64), STEPS)
    for step in range(3):
        whole.step(noise(64).batch(step), step)
    params = tuple({name: array.copy() for name, array in part.items()} for part in whole.params())
    state = {group: {key: array.copy() for key, array in arrays.items()} for group, arrays in whole.state().items()}
    rest = Trainer(trainer_config(cfg), CLASSES, noise(64), STEPS, params)
    rest.restore(state, whole.updates, params)
    for step in range(3, STEPS):
        losses = [trainer.step(noise(64).batch(step), step).loss for trainer in (whole, rest)]
        assert losses[0] == losses[1]
        assert whole.learning_rate == rest.learning_rate
    for each, array in whole.params()[0].items():
        np.testing.assert_array_equal(array.asnumpy(), rest.params()[0][each].asnumpy())


def test_what_applies_is_logged(settings, noise, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = trainer_config(settings("optimizer=adadelta", "optimizer.learning_rate=0.5", *OVERRIDES))
    Trainer(config, CLASSES, noise(64), STEPS)
    assert (
        "optimizer: adadelta, learning rate 0.5 by schedule=step, times 0.5 for backbone, times 2 for extras, "
        "weight decay 0.05 on weights"
    ) in caplog.text


@pytest.mark.parametrize("name", RULES)
def test_a_rate_of_zero_moves_nothing(settings, noise, name: str) -> None:
    """Not by weight decay either."""
    cfg = settings(f"optimizer={name}", "optimizer.wd=0.5", "optimizer.learning_rate=0")
    trainer = Trainer(trainer_config(cfg), CLASSES, noise(64), STEPS)
    before = weights_of(trainer)
    assert trainer.step(noise(64).batch(0)).finite
    for each, array in weights_of(trainer).items():
        np.testing.assert_array_equal(array, before[each])


def test_adadelta_at_rate_one_without_decay_is_mxnets() -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 4)), rng.normal(size=(6, 3, 4))
    found = []
    for name in ("adadelta", "scaledadadelta"):
        updater = mx.optimizer.get_updater(mx.optimizer.create(name, learning_rate=1.0, rescale_grad=0.5, rho=0.8))
        weight = mx.nd.array(start)
        for gradient in gradients:
            updater(0, mx.nd.array(gradient), weight)
        found.append(weight.asnumpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_a_step_is_mxnet_ssds_gradient_and_decay(settings, noise) -> None:
    """In our loss, with the numbers of conf/optimizer/sgd_mxnet_ssd.yaml, as in its own, which compat=mxnet_ssd has."""
    mx.random.seed(3)
    cfgs = [settings(*MXNET_SSD, f"compat={compat}") for compat in ("null", "mxnet_ssd")]
    assert [cfg.optimizer.learning_rate for cfg in cfgs] == [0.001, 0.004]
    ours = Trainer(trainer_config(cfgs[0]), CLASSES, noise(64), STEPS)
    start = tuple({name: array.copy() for name, array in part.items()} for part in ours.params())
    theirs = Trainer(trainer_config(cfgs[1]), CLASSES, noise(64), STEPS, start)
    for step in range(3):
        losses = [trainer.step(noise(64).batch(step)) for trainer in (ours, theirs)]
        assert losses[0].anchors == 4 * losses[0].positives > 0  # three negatives each
        after = [weights_of(trainer) for trainer in (ours, theirs)]
        for name, before in start[0].items():
            moved, wanted = (each[name] - before.asnumpy() for each in after)
            np.testing.assert_allclose(moved, wanted, rtol=2e-3, atol=2e-3 * np.abs(wanted).max(), err_msg=name)


@pytest.mark.parametrize("compat", ["null", "mxnet_ssd"])
def test_decay_alone_is_mxnet_ssds(settings, noise, compat: str) -> None:
    """Of images without objects nothing else moves: 0.004 x 0.0005 of every weight a step, before momentum."""
    trainer = Trainer(trainer_config(settings(*MXNET_SSD, f"compat={compat}")), CLASSES, noise(64), STEPS)
    name = "stage2_2_conv2d_weight"
    before = trainer.params()[0][name].asnumpy().astype(np.float64)
    batch = noise(64).batch(0)
    batch.label[0][:] = -1
    trainer.step(batch)
    moved = trainer.params()[0][name].asnumpy() - before
    np.testing.assert_allclose(moved, -0.004 * 0.0005 * before, atol=np.abs(before).max() * 2**-24)


@pytest.mark.parametrize("key", ["momentum", "learning_rat"])
def test_a_key_that_the_optimizer_does_not_know(settings, noise, key: str) -> None:
    with pytest.raises(UserError, match=f"optimizer adadelta: .*{key}"):
        Trainer(trainer_config(settings("optimizer=adadelta", f"+optimizer.{key}=0.9")), CLASSES, noise(64), STEPS)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "clip_gradient": 0.5}])
def test_sgd_of_one_array_after_the_other_is_that_of_mxnet(options: dict[str, float]) -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 4, 5)), rng.normal(size=(6, 3, 4, 5))
    found = []
    for name in ("sgd", optimizer_name("sgd", "cpu")):
        optimizer = mx.optimizer.create(name, learning_rate=0.1, wd=0.01, rescale_grad=0.5, **options)
        optimizer.idx2name = {0: "a_weight", 1: "b_bias"}
        optimizer.set_lr_mult({"b_bias": 2.0})
        optimizer.set_wd_mult({})
        updater = mx.optimizer.get_updater(optimizer)
        weights = [mx.nd.array(start), mx.nd.array(start)]
        for gradient in gradients:
            updater([0, 1], [mx.nd.array(gradient)] * 2, weights)
        assert optimizer.num_update == len(gradients)
        found.append([weight.asnumpy() for weight in weights])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[0][0], found[0][1])
