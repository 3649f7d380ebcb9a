"""Normalizations folded into convolutions: the same numbers with fewer operators."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ssd.checkpoint.model import Params
from ssd.graph_passes.graph import VARIABLE, Edge, Graph, Node
from ssd.mxnet_compat import mx

EPSILON = "0.001"  # MXNet's default
SMALLEST_GAIN = 1e-3  # of a channel that a shift in front of it can still be taken through


def fold_batch_norm(symbol: Any, arg_params: Params, aux_params: Params) -> tuple[Any, Params, Params]:
    """The graph without the normalizations that follow a convolution, for inference only, and its parameters.

    weight' = weight * scale, bias' = (bias - mean) * scale + beta, scale = gamma / sqrt(variance + eps), computed in
    float64. Others stay: before a convolution the padding would change, and a convolution with other users is needed as
    it is.
    """
    graph = Graph.of(symbol)
    users = graph.users()
    args, aux = dict(arg_params), dict(aux_params)
    moved: dict[Edge, Edge] = {}
    for norm in graph.nodes():
        if not _foldable(norm, users, graph):
            continue
        convolution = norm.inputs[0].node
        _fold(convolution, norm, args, aux)
        moved[Edge(norm, 0)] = Edge(convolution, 0)
    graph.redirect(lambda edge: moved.get(edge, edge))
    folded = graph.symbol()
    names = {*folded.list_arguments()}
    states = {*folded.list_auxiliary_states()}
    kept = {name: array for name, array in args.items() if name in names}
    return folded, kept, {name: array for name, array in aux.items() if name in states}


def fold_input(
    symbol: Any, params: tuple[Params, Params], mean: Sequence[float], std: Sequence[float]
) -> tuple[Any, Params, tuple[np.ndarray, np.ndarray]]:
    """A graph whose `data` is (x - mean) / std as one whose `data` is (x - shift) / scale with less to compute.

    params: arguments and auxiliary states. Returns the graph, its arguments, and (shift [C], scale [C]). Where `data`
    goes into convolutions alone, scale is 1 and their weights are what they were divided by std; a batch normalization
    of `data` in front of them goes into both, too. The shift cannot: they are padded with zeros after it.
    """
    graph = Graph.of(symbol)
    args, aux = params
    shift, scale = given = np.array(mean, np.float64), np.array(std, np.float64)
    users = graph.users()
    data = next(node for node in graph.nodes() if node.op == VARIABLE and node.name == "data")
    source = data
    if [node.op for node in users[data]] == ["BatchNorm"]:
        source = users[data][0]
        gain, offset = _affine(source, args, aux)
        if np.abs(gain).min() < SMALLEST_GAIN:
            return symbol, args, given
        shift, scale = shift - offset / gain * scale, scale / gain
    readers = users[source]
    weights = [node.inputs[1].node for node in readers if len(node.inputs) > 1]
    free = all(node.op == VARIABLE and len(users[node]) == 1 for node in weights)
    plain = all(node.op == "Convolution" and node.groups == 1 for node in readers)
    if not (free and plain) or any(edge.node in (data, source) for edge in graph.outputs):
        return symbol, args, given
    args = dict(args)
    for node in weights:
        weight = args[node.name]
        scaled = weight.asnumpy().astype(np.float64) / scale.reshape(1, -1, 1, 1)
        args[node.name] = mx.nd.array(scaled, weight.context, dtype=np.float32)
    graph.redirect(lambda edge: Edge(data, 0) if edge == Edge(source, 0) else edge)
    return graph.symbol(), args, (shift, np.ones_like(scale))


def _affine(norm: Node, args: Params, aux: Params) -> tuple[np.ndarray, np.ndarray]:
    """A batch normalization as x * gain + offset, float64 [C] each."""
    gamma, beta, mean, variance = (edge.node.name for edge in norm.inputs[1:5])
    gain = 1 / np.sqrt(aux[variance].asnumpy().astype(np.float64) + float(norm.attrs.get("eps", EPSILON)))
    if norm.attrs.get("fix_gamma", "True") not in ("True", "1", "true"):
        gain = gain * args[gamma].asnumpy().astype(np.float64)
    return gain, args[beta].asnumpy().astype(np.float64) - aux[mean].asnumpy().astype(np.float64) * gain


def _foldable(norm: Node, users: dict[Node, list[Node]], graph: Graph) -> bool:
    if norm.op != "BatchNorm" or norm.attrs.get("axis", "1") != "1":
        return False
    source = norm.inputs[0].node
    if source.op != "Convolution" or len(users[source]) > 1 or any(edge.node is source for edge in graph.outputs):
        return False
    shared = [edge.node for edge in source.inputs[1:] if len(users[edge.node]) > 1]
    return not shared and all(edge.node.op == VARIABLE for edge in source.inputs[1:])


def _fold(convolution: Node, norm: Node, args: Params, aux: Params) -> None:
    """Changes the convolution and its parameters, which take the convolution's names."""
    scale, offset = _affine(norm, args, aux)
    weight = convolution.inputs[1].node.name
    bias = np.zeros_like(scale)
    if len(convolution.inputs) > 2:
        bias = args[convolution.inputs[2].node.name].asnumpy().astype(np.float64)
    else:
        convolution.attrs.pop("no_bias", None)
        convolution.inputs.append(Edge(Node(VARIABLE, f"{convolution.name}_bias"), 0))
    context = args[weight].context
    folded = args[weight].asnumpy().astype(np.float64) * scale.reshape(-1, 1, 1, 1)
    args[weight] = mx.nd.array(folded, context, dtype=np.float32)
    args[convolution.inputs[2].node.name] = mx.nd.array(bias * scale + offset, context, dtype=np.float32)
