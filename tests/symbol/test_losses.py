"""Class losses against numpy: values and gradients."""

from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from ssd.config.parts import network_config
from ssd.mxnet_compat import mx
from ssd.symbol import build_train
from ssd.symbol.losses import class_losses
from ssd.symbol.multibox import MultiBox

BATCH, CLASSES, ANCHORS = 2, 3, 11
LABEL = np.random.default_rng(3).integers(-1, CLASSES + 1, (BATCH, ANCHORS)).astype(np.float32)
SCORES = np.random.default_rng(4).normal(0, 2, (BATCH, CLASSES + 1, ANCHORS)).astype(np.float32)


def run(cfg: DictConfig, scores: np.ndarray = SCORES) -> tuple[list[np.ndarray], np.ndarray]:
    """Outputs of the class loss, and its gradient with respect to the scores."""
    origin = mx.sym.sum(mx.sym.Variable("data"), axis=(1, 2, 3), keepdims=False).reshape((-1, 1, 1))
    anchors = mx.sym.broadcast_add(origin, mx.sym.zeros((1, ANCHORS, 4)))
    heads = MultiBox(mx.sym.Variable("scores"), mx.sym.Variable("loc"), anchors)
    losses = mx.sym.Group(class_losses(heads, mx.sym.Variable("target"), network_config(cfg)))
    executor = losses.simple_bind(mx.cpu(), scores=SCORES.shape, target=LABEL.shape)
    executor.arg_dict["scores"][:] = scores
    executor.arg_dict["target"][:] = LABEL
    outputs = [array.asnumpy() for array in executor.forward(is_train=True)]
    executor.backward()
    return outputs, executor.grad_dict["scores"].asnumpy()


def numerical(loss: Any) -> np.ndarray:
    """Gradient of the sum of loss(scores) by differences, in float64."""
    scores, step = SCORES.astype(np.float64), 1e-5
    gradient = np.zeros_like(scores)
    for place in np.ndindex(*scores.shape):
        values = []
        for sign in (1, -1):
            moved = scores.copy()
            moved[place] += sign * step
            values.append(loss(moved).sum())
        gradient[place] = (values[0] - values[1]) / (2 * step)
    return gradient


def log_softmax(scores: np.ndarray) -> np.ndarray:
    moved = scores - scores.max(axis=1, keepdims=True)
    return moved - np.log(np.exp(moved).sum(axis=1, keepdims=True))


def chosen(values: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, np.maximum(LABEL, 0).astype(int)[:, None], axis=1)[:, 0]


def focal(scores: np.ndarray, alpha: float, gamma: float) -> np.ndarray:
    log_prob = chosen(log_softmax(scores))
    weight = np.where(LABEL > 0, alpha, 1 - alpha)
    return np.where(LABEL >= 0, -weight * (1 - np.exp(log_prob)) ** gamma * log_prob, 0)


def smoothed(scores: np.ndarray, share: float) -> np.ndarray:
    log_prob = log_softmax(scores)
    wanted = np.full_like(log_prob, share / (CLASSES + 1))
    np.put_along_axis(wanted, np.maximum(LABEL, 0).astype(int)[:, None], 1 - share + share / (CLASSES + 1), axis=1)
    return np.where(LABEL >= 0, -(wanted * log_prob).sum(axis=1), 0)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.75, 1.0), (0.25, 0.5)])
@pytest.mark.parametrize("compat", [None, "mxnet_ssd"])
def test_focal_loss(configure, compat: str | None, alpha: float, gamma: float) -> None:
    """Sums also with compat: divided by the positives of the whole batch."""
    cfg = configure(compat=compat)
    cfg.loss.classification, cfg.loss.focal.alpha, cfg.loss.focal.gamma = "focal", alpha, gamma
    (prob, loss), gradient = run(cfg)
    np.testing.assert_allclose(prob, np.exp(log_softmax(SCORES)), rtol=1e-4)
    np.testing.assert_allclose(loss, focal(SCORES.astype(np.float64), alpha, gamma), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient, numerical(lambda scores: focal(scores, alpha, gamma)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_label_smoothing(configure, share: float) -> None:
    cfg = configure()
    cfg.loss.label_smoothing = share
    (_, loss), gradient = run(cfg)
    np.testing.assert_allclose(loss, smoothed(SCORES.astype(np.float64), share), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient, numerical(lambda scores: smoothed(scores, share)), rtol=1e-3, atol=1e-5)


def test_compat_divides_smoothed_losses_by_the_anchors_that_learn(configure) -> None:
    ours, theirs = configure(), configure(compat="mxnet_ssd")
    for cfg in (ours, theirs):
        cfg.loss.label_smoothing = 0.1
    np.testing.assert_allclose(run(theirs)[1], run(ours)[1] / (LABEL >= 0).sum(), rtol=1e-4, atol=1e-7)


def test_nothing_smoothed_is_the_plain_cross_entropy(configure) -> None:
    """The general form and SoftmaxOutput have the same gradients."""
    plain, tiny = configure(), configure()
    tiny.loss.label_smoothing = 1e-9
    (prob,), gradient = run(plain)
    (same, _), general = run(tiny)
    np.testing.assert_allclose(prob, same, rtol=1e-5)
    np.testing.assert_allclose(gradient, general, rtol=1e-3, atol=1e-5)


def test_very_sure_and_very_wrong_scores_stay_finite(configure) -> None:
    cfg = configure()
    cfg.loss.classification = "focal"
    cfg.loss.focal.gamma = 0.5
    (_, loss), gradient = run(cfg, np.where(SCORES > 0, 200, -200))
    assert np.isfinite(loss).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("prior", [0.01, 0.2])
def test_focal_loss_begins_at_its_prior(configure, prior: float) -> None:
    cfg = configure("small", 128)
    cfg.loss.classification, cfg.loss.focal.prior = "focal", prior
    graph = build_train(cfg, 5)
    module = mx.mod.Module(graph, label_names=("label",))
    module.bind([("data", (1, 3, 128, 128))], [("label", (1, 2, 6))])
    module.init_params(mx.init.Xavier())
    bias = module.get_params()[0]["stage3_2_relu_cls_pred_conv_bias"].asnumpy().reshape(-1, 6)
    prob = np.exp(bias) / np.exp(bias).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(1 - prob[:, 0], prior, rtol=1e-4)
    np.testing.assert_allclose(prob[:, 1:], prior / 5, rtol=1e-4)
