"""Biases make up for rounded weights."""

import numpy as np
import pytest

from ssd.export.biases import LEVELS, bias_correct
from ssd.export.calibration import activations
from ssd.mxnet_compat import mx

IMAGES = [np.random.default_rng(0).normal(1, 2, (3, 4, 6, 5)).astype(np.float32)]


def rounded(weight: np.ndarray) -> np.ndarray:
    step = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / LEVELS
    return np.round(weight / step) * step


@pytest.mark.parametrize("groups", [1, 2])
def test_the_mean_is_that_of_exact_weights(groups: int) -> None:
    graph = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=8, num_group=groups, kernel=(1, 1), name="conv")
    rng = np.random.default_rng(groups)
    exact = rng.normal(0, 1, (8, 4 // groups, 1, 1)).astype(np.float32)
    args = {"conv_weight": mx.nd.array(exact), "conv_bias": mx.nd.array(rng.normal(0, 1, 8))}

    def mean(params) -> np.ndarray:
        return np.mean(
            [outputs[0].asnumpy().mean(axis=(0, 2, 3)) for outputs in activations(graph, (params, {}), IMAGES)], 0
        )

    better = bias_correct(graph, args, {}, IMAGES)
    np.testing.assert_array_equal(better["conv_weight"].asnumpy(), exact)
    low = {"conv_weight": mx.nd.array(rounded(exact))}
    np.testing.assert_allclose(mean({**better, **low}), mean(args), atol=1e-5)
    assert np.abs(mean({**args, **low}) - mean(args)).max() > 1e-4


def test_a_convolution_without_bias_stays() -> None:
    graph = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=2, kernel=(1, 1), no_bias=True, name="conv")
    args = {"conv_weight": mx.nd.ones((2, 4, 1, 1))}
    assert bias_correct(graph, args, {}, IMAGES) == args


def test_weights_of_zeros() -> None:
    graph = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=2, kernel=(1, 1), name="conv")
    args = {"conv_weight": mx.nd.zeros((2, 4, 1, 1)), "conv_bias": mx.nd.ones(2)}
    np.testing.assert_array_equal(bias_correct(graph, args, {}, IMAGES)["conv_bias"].asnumpy(), [1, 1])
