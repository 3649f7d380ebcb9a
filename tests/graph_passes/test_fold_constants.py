"""Anchors as numbers."""

import numpy as np

from ssd.graph_passes.fold_constants import with_constants
from ssd.graph_passes.graph import PRIOR, Graph
from ssd.mxnet_compat import mx


def answers(symbol, args, aux, data):
    args = {name: args[name] for name in symbol.list_arguments() if name != "data"}
    executor = symbol.bind(mx.cpu(), args={**args, "data": mx.nd.array(data)}, aux_states=aux, grad_req="null")
    return [output.asnumpy() for output in executor.forward()]


def test_anchors_become_numbers(random_model):
    model = random_model("backbone=small", "data_shape=128")
    symbol, args = with_constants(model.symbol, model.arg_params, (3, 128, 128))
    assert not [node for node in Graph.of(symbol).nodes() if node.op == PRIOR]
    assert set(args) > set(model.arg_params)
    data = np.random.default_rng(0).normal(0, 1, (3, 3, 128, 128))
    before = answers(model.symbol, model.arg_params, model.aux_params, data)
    for ours, theirs in zip(answers(symbol, args, model.aux_params, data), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert with_constants(symbol, args, (3, 128, 128))[0] is symbol


def test_a_constant_output_and_a_taken_name():
    data = mx.sym.Variable("data")
    anchors = mx.sym.contrib.MultiBoxPrior(data, sizes=(0.5,), ratios=(1,), name="taken")
    symbol = mx.sym.Group([anchors, data * 2])
    folded, args = with_constants(symbol, {"taken": mx.nd.ones(1)}, (3, 2, 2))
    assert args["taken_"].shape == (1, 4, 4)
    assert folded.list_arguments() == ["taken_", "data"]
