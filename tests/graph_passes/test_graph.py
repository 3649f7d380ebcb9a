"""Graphs taken apart and put together."""

from ssd.config.compose import compose
from ssd.graph_passes.graph import Graph
from ssd.mxnet_compat import mx
from ssd.symbol import build_train


def test_a_graph_put_together_again_is_the_same():
    symbol = build_train(compose(["backbone=densenet_tiny", "data_shape=128"]), 3)
    again = Graph.of(symbol).symbol()
    assert again.list_arguments() == symbol.list_arguments()
    assert again.list_auxiliary_states() == symbol.list_auxiliary_states()
    assert again.list_outputs() == symbol.list_outputs()


def test_nodes_that_nothing_needs_are_left_out():
    data = mx.sym.Variable("data")
    symbol = mx.sym.Group([mx.sym.exp(data, name="kept"), mx.sym.log(data, name="dropped")])
    graph = Graph.of(symbol)
    graph.outputs = graph.outputs[:1]
    assert graph.symbol().list_outputs() == ["kept_output"]
    assert [node.name for node in graph.nodes()] == ["data", "kept"]
