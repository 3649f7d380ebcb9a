"""Batch normalisation folded into the convolution before it: the same numbers with one operator less."""

from typing import Any

import numpy as np

from ssd.engine import mx
from ssd.model import Params
from ssd.symbol.surgery import VARIABLE, Edge, Graph, Node

EPSILON = "0.001"  # MXNet's default


def fold_batch_norm(symbol: Any, arg_params: Params, aux_params: Params) -> tuple[Any, Params, Params]:
    """The graph without the normalisations that follow a convolution, for inference only, and its parameters.

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
    gamma, beta, mean, variance = (edge.node.name for edge in norm.inputs[1:5])
    values = {name: args[name].asnumpy().astype(np.float64) for name in (gamma, beta)}
    states = {name: aux[name].asnumpy().astype(np.float64) for name in (mean, variance)}
    scale = 1 / np.sqrt(states[variance] + float(norm.attrs.get("eps", EPSILON)))
    if norm.attrs.get("fix_gamma", "True") not in ("True", "1", "true"):
        scale *= values[gamma]
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
    shifted = (bias - states[mean]) * scale + values[beta]
    args[convolution.inputs[2].node.name] = mx.nd.array(shifted, context, dtype=np.float32)
