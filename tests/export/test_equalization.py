"""Channels evened out change no answer."""

import numpy as np
import pytest

from ssd.export.calibration import activations
from ssd.export.equalization import LARGEST_FACTOR, cross_layer_equalize
from ssd.export.formats import open_graph
from ssd.graph_passes.fold_batch_norm import fold_batch_norm
from ssd.mxnet_compat import mx

IMAGES = [np.random.default_rng(0).normal(0, 1, (2, 3, 128, 128)).astype(np.float32)]


def results(graph, params, images=IMAGES):
    return [[output.asnumpy() for output in outputs] for outputs in activations(graph, params, images)]


@pytest.mark.parametrize("backbone", ["small", "mobilenet_025", "densenet_tiny"])
def test_answers_stay(random_model, backbone: str) -> None:
    model = random_model(f"backbone={backbone}", "data_shape=128")
    graph, args, aux = fold_batch_norm(open_graph(model), model.arg_params, model.aux_params)
    even = cross_layer_equalize(graph, args, aux, IMAGES)
    changed = [name for name, array in args.items() if (array != even[name]).sum().asscalar()]
    assert changed
    for ours, theirs in zip(results(graph, (even, aux)), results(graph, (args, aux)), strict=True):
        for left, right in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-4)


def chain(groups: int):
    """Three channels, the second ten times as loud as the first, the third silent, and what reads them."""
    data = mx.sym.Variable("data")
    first = mx.sym.Convolution(data, num_filter=3, kernel=(1, 1), name="first")
    relu = mx.sym.Activation(first, act_type="relu", name="relu")
    second = mx.sym.Convolution(relu, num_filter=3, num_group=groups, kernel=(1, 1), name="second")
    weights = {"first_weight": np.diag([1, 10, -1]), "second_weight": np.ones((3, 3)) if groups == 1 else np.ones(3)}
    args = {name: mx.nd.array(value.reshape(3, -1, 1, 1)) for name, value in weights.items()}
    return second, {**args, "first_bias": mx.nd.zeros(3), "second_bias": mx.nd.ones(3)}


LOUD = [np.abs(np.random.default_rng(1).normal(0, 1, (1, 3, 8, 8))).astype(np.float32)]


def ranges(graph, args):
    relu = graph.get_internals()["relu_output"]
    return results(relu, (args, {}), LOUD)[0][0].max(axis=(0, 2, 3))


def test_channels_before_a_depthwise_convolution_get_the_same_range() -> None:
    graph, args = chain(groups=3)
    even = cross_layer_equalize(graph, args, {}, LOUD)
    first, second, silent = ranges(graph, even)
    assert first == pytest.approx(second)
    assert silent == 0
    np.testing.assert_array_equal(even["first_weight"][2].asnumpy(), args["first_weight"][2].asnumpy())


def test_other_channels_meet_their_weights_half_way() -> None:
    graph, args = chain(groups=1)
    before = ranges(graph, args)
    after = ranges(graph, cross_layer_equalize(graph, args, {}, LOUD))
    assert after[1] / after[0] == pytest.approx((before[1] / before[0]) ** 0.5, rel=1e-5)


def test_a_channel_that_hardly_speaks_stays_quiet() -> None:
    graph, args = chain(groups=3)
    args["first_weight"][0] *= 1e-9
    before, after = ranges(graph, args), ranges(graph, cross_layer_equalize(graph, args, {}, LOUD))
    assert after[0] <= before[0] * LARGEST_FACTOR * 1.01


def test_what_others_need_as_it_is_stays() -> None:
    """A ReLU that is an output, or read by something else than a convolution."""
    graph, args = chain(groups=1)
    seen = mx.sym.Group([graph, graph.get_internals()["relu_output"]])
    assert cross_layer_equalize(seen, args, {}, LOUD) is args
    pooled = mx.sym.Group([graph, mx.sym.Pooling(graph.get_internals()["relu_output"], global_pool=True)])
    assert cross_layer_equalize(pooled, args, {}, LOUD) is args
