"""Channels of a network evened out, so that 8 bits, which all channels of a layer share, do each of them justice.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", section 4.1, with measured
ranges of activations: relu(x / s) = relu(x) / s, so a convolution's channels can be divided by any factors that the
filters after them are multiplied with.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssd.checkpoint.model import Params
from ssd.export.calibration import activations
from ssd.graph_passes.graph import Edge, Graph, Node
from ssd.mxnet_compat import mx

LARGEST_FACTOR = 64.0  # and its inverse: a channel that hardly ever speaks stays quiet


@dataclass(frozen=True)
class _Link:
    """A convolution with a ReLU whose only users are other convolutions."""

    source: Node
    relu: Node
    users: list[Node]


def cross_layer_equalize(graph: Any, arg_params: Params, aux_params: Params, images: Iterable[np.ndarray]) -> Params:
    """Arguments with which the graph answers the same, its channels evened out.

    graph: batch normalizations folded (folding.fold_batch_norm). images: batches float32 [B, 3, H, W], normalized.
    Channels in front of a depthwise convolution, whose filters are rounded one by one, get the same range; others meet
    the weights that they are multiplied with half way.
    """
    links = _links(Graph.of(graph))
    if not links:
        return arg_params
    values = {name: array.asnumpy() for name, array in arg_params.items()}
    ranges = _ranges(graph, links, (arg_params, aux_params), images)
    for link in links:
        factors = _factors(link, ranges[link.relu.name], values)
        for edge in link.source.inputs[1:]:
            array = values[edge.node.name]
            values[edge.node.name] = array / factors.reshape(-1, *[1] * (array.ndim - 1))
        for user in link.users:
            name = user.inputs[1].node.name
            along = (-1, 1, 1, 1) if _depthwise(user) else (1, -1, 1, 1)
            values[name] = values[name] * factors.reshape(along)
    return {name: mx.nd.array(values[name], array.context) for name, array in arg_params.items()}


def _links(graph: Graph) -> list[_Link]:
    users = graph.users()
    outputs = {edge.node for edge in graph.outputs}
    links = []
    for relu in graph.nodes():
        if relu.op != "Activation" or relu.attrs["act_type"] != "relu" or relu in outputs:
            continue
        source, after = relu.inputs[0].node, users[relu]
        private = [edge.node for node in (source, *after) for edge in node.inputs[1:]]
        alone = source.op == "Convolution" and users[source] == [relu] and source not in outputs
        if alone and all(map(_scalable, after)) and all(len(users[node]) == 1 for node in private):
            links.append(_Link(source, relu, after))
    return links


def _scalable(node: Node) -> bool:
    return node.op == "Convolution" and (node.groups == 1 or _depthwise(node))


def _depthwise(node: Node) -> bool:
    return node.groups > 1 and node.attrs["num_filter"] == node.attrs["num_group"]


def _ranges(
    graph: Any, links: list[_Link], params: tuple[Params, Params], images: Iterable[np.ndarray]
) -> dict[str, np.ndarray]:
    """Largest value of each channel [C] after each ReLU, over all images."""
    shown = Graph.of(graph)
    wanted = {link.relu.name for link in links}
    shown.outputs = [Edge(node, 0) for node in shown.nodes() if node.name in wanted]
    names = [edge.node.name for edge in shown.outputs]
    found: dict[str, np.ndarray] = {}
    for outputs in activations(shown.symbol(), params, images):
        for name, output in zip(names, outputs, strict=True):
            largest = output.max(axis=(0, 2, 3)).asnumpy()
            found[name] = np.maximum(found.get(name, largest), largest)
    return found


def _factors(link: _Link, largest: np.ndarray, values: dict[str, np.ndarray]) -> np.ndarray:
    """What each channel is divided by [C]."""
    dense = [values[user.inputs[1].node.name] for user in link.users if not _depthwise(user)]
    speaks = largest > 0
    factors = np.ones_like(largest)
    factors[speaks] = largest[speaks]
    if dense:
        weights = np.max([np.abs(weight).max(axis=(0, 2, 3)) for weight in dense], axis=0)
        speaks &= weights > 0
        factors[speaks] = np.sqrt(largest[speaks] / weights[speaks])
        factors[~speaks] = 1
    if speaks.any():
        middle = np.exp(np.log(factors[speaks]).mean())
        factors[speaks] = np.clip(factors[speaks] / middle, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    factors[~speaks] = 1
    return factors
