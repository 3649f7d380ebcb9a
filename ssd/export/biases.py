"""Biases that make up for what rounding the weights does to a layer's mean.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", section 4.2, with measured
means of activations.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ssd.checkpoint.model import Params
from ssd.export.calibration import activations
from ssd.graph_passes.graph import Edge, Graph, Node
from ssd.mxnet_compat import mx

LEVELS = 127  # of a weight, per output channel


def bias_correct(graph: Any, arg_params: Params, aux_params: Params, images: Iterable[np.ndarray]) -> Params:
    """Arguments in which every convolution's bias is less by what rounded weights add to its mean.

    images: batches float32 [B, 3, H, W], normalized. A convolution without bias is left as it is.
    """
    convolutions = [node for node in Graph.of(graph).nodes() if node.op == "Convolution" and len(node.inputs) > 2]
    if not convolutions:
        return arg_params
    means = _means(graph, convolutions, (arg_params, aux_params), images)
    args = dict(arg_params)
    for node in convolutions:
        weight, bias = (edge.node.name for edge in node.inputs[1:3])
        shift = _shift(args[weight].asnumpy(), means[node.name])
        args[bias] = mx.nd.array(args[bias].asnumpy() - shift, args[bias].context)
    return args


def _shift(weight: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """What rounding weights [O, C / groups, h, w] adds to the outputs' means [O], given those of the inputs [C]."""
    step = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / LEVELS
    step[step == 0] = 1
    added = (np.round(weight / step) * step - weight).sum(axis=(2, 3), dtype=np.float64)
    groups = len(mean) // weight.shape[1]
    seen = mean.reshape(groups, 1, -1).repeat(len(weight) // groups, axis=1).reshape(added.shape)
    return (added * seen).sum(axis=1)


def _means(
    graph: Any, convolutions: list[Node], params: tuple[Params, Params], images: Iterable[np.ndarray]
) -> dict[str, np.ndarray]:
    """Mean of each channel [C] that a convolution reads, over all images."""
    shown = Graph.of(graph)
    names = {node.name for node in convolutions}
    readers = [node for node in shown.nodes() if node.name in names]
    sources = list(dict.fromkeys(node.inputs[0] for node in readers))
    shown.outputs = [Edge(Node("_copy", f"seen{number}", {}, [edge]), 0) for number, edge in enumerate(sources)]
    totals = [np.zeros(1)] * len(sources)
    count = 0
    for outputs in activations(shown.symbol(), params, images):
        totals = [total + output.mean(axis=(0, 2, 3)).asnumpy() for total, output in zip(totals, outputs, strict=True)]
        count += 1
    means = {edge: total / max(count, 1) for edge, total in zip(sources, totals, strict=True)}
    return {node.name: means[node.inputs[0]] for node in readers}
