"""Batch normalization inside of convolutions."""

import numpy as np
import pytest

from ssd.graph_passes.fold_batch_norm import fold_batch_norm, fold_input
from ssd.mxnet_compat import mx


def filled(symbol, shape):
    shapes, _, aux_shapes = symbol.infer_shape(data=shape)
    rng = np.random.default_rng(0)
    pairs = zip(symbol.list_arguments(), shapes, strict=True)
    args = {name: mx.nd.array(rng.uniform(0.5, 1.5, size)) for name, size in pairs if name != "data"}
    pairs = zip(symbol.list_auxiliary_states(), aux_shapes, strict=True)
    return args, {name: mx.nd.array(rng.uniform(0.5, 1.5, size)) for name, size in pairs}


def answer(symbol, args, aux, data):
    executor = symbol.bind(mx.cpu(), args={**args, "data": data}, aux_states=aux, grad_req="null")
    return [output.asnumpy() for output in executor.forward(is_train=False)]


def convolution(data, **options):
    return mx.sym.Convolution(data, kernel=(3, 3), num_filter=4, name="conv", **options)


def check(symbol, norms_left):
    data = mx.nd.array(np.random.default_rng(1).normal(0, 1, (2, 4, 6, 6)))
    args, aux = filled(symbol, data.shape)
    folded, folded_args, folded_aux = fold_batch_norm(symbol, args, aux)
    assert len(folded.list_auxiliary_states()) == 2 * norms_left
    assert set(folded.list_arguments()) == {*folded_args, "data"}
    for ours, theirs in zip(
        answer(folded, folded_args, folded_aux, data), answer(symbol, args, aux, data), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fix_gamma", [True, False])
@pytest.mark.parametrize("options", [{}, {"no_bias": True}, {"num_group": 2}])
def test_the_answer_stays(fix_gamma, options):
    norm = mx.sym.BatchNorm(convolution(mx.sym.Variable("data"), **options), fix_gamma=fix_gamma, eps=1e-2, name="norm")
    check(mx.sym.relu(norm), norms_left=0)


def test_what_must_stay_does():
    data = mx.sym.Variable("data")
    before = convolution(mx.sym.BatchNorm(data, name="norm"))
    check(before, norms_left=1)
    twice = convolution(data)
    check(mx.sym.Group([mx.sym.BatchNorm(twice, name="norm"), twice * 2]), norms_left=1)
    check(mx.sym.Group([mx.sym.BatchNorm(twice, name="norm"), twice]), norms_left=1)
    weight = mx.sym.Variable("shared", shape=(4, 4, 3, 3))
    pair = [
        mx.sym.BatchNorm(
            mx.sym.Convolution(data, weight=weight, no_bias=True, kernel=(3, 3), num_filter=4, name=f"conv{number}"),
            name=f"norm{number}",
        )
        for number in range(2)
    ]
    check(mx.sym.Group(pair), norms_left=2)
    check(mx.sym.BatchNorm(convolution(data), axis=3, name="norm"), norms_left=1)


MEAN, STD = [120.0, 110.0, 100.0, 90.0], [50.0, 60.0, 70.0, 80.0]


def check_input(symbol, folds: bool, **changed):
    """changed: parameters to set, by the end of their names."""
    levels = mx.nd.array(np.random.default_rng(1).integers(0, 256, (2, 4, 6, 6)))
    args, aux = filled(symbol, levels.shape)
    for name, value in changed.items():
        next(array for key, array in {**args, **aux}.items() if key.endswith(name))[0] = value

    def normalized(shift, scale):
        return (levels - mx.nd.array(shift).reshape((1, -1, 1, 1))) / mx.nd.array(scale).reshape((1, -1, 1, 1))

    folded, folded_args, (shift, scale) = fold_input(symbol, (args, aux), MEAN, STD)
    assert (scale == 1).all() == folds
    assert folds or folded is symbol
    used = {name: array for name, array in folded_args.items() if name in folded.list_arguments()}
    states = {name: array for name, array in aux.items() if name in folded.list_auxiliary_states()}
    found = answer(folded, used, states, normalized(shift, scale))
    for ours, theirs in zip(found, answer(symbol, args, aux, normalized(MEAN, STD)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"no_bias": True}, {"pad": (1, 1)}])
def test_the_scale_of_the_input_goes_into_the_first_convolution(options):
    check_input(mx.sym.relu(convolution(mx.sym.Variable("data"), **options)), folds=True)


@pytest.mark.parametrize("fix_gamma", [True, False])
def test_a_normalized_input_goes_there_too(fix_gamma):
    norm = mx.sym.BatchNorm(mx.sym.Variable("data"), fix_gamma=fix_gamma, eps=2e-5, name="norm")
    other = mx.sym.Convolution(norm, kernel=(1, 1), num_filter=2, name="other")
    symbol = mx.sym.Group([convolution(norm, pad=(1, 1)), other])
    check_input(symbol, folds=True)
    check_input(symbol, folds=fix_gamma, gamma=0.0)  # of a channel that is nothing any more


def test_what_reads_the_input_otherwise_gets_it_as_it_is():
    data = mx.sym.Variable("data")
    check_input(mx.sym.Pooling(data, kernel=(2, 2), pool_type="avg"), folds=False)
    check_input(convolution(data, num_group=2), folds=False)
    check_input(mx.sym.Group([convolution(data), data]), folds=False)
    norm = mx.sym.BatchNorm(data, name="norm")
    check_input(mx.sym.Group([convolution(norm), norm]), folds=False)
