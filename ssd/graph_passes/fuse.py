"""A train graph with fewer, better shaped operations for oneDNN: the same network, its sums in another order."""

from collections.abc import Iterable
from math import ceil
from typing import Any

from ssd.graph_passes.graph import PRIOR, Edge, Graph, Node

BLOCK = 16  # channels that oneDNN computes together, with 512-bit registers
SEVERAL = ("num_filter", "workspace")  # in which convolutions of the same map may differ and still be one


def fused(symbol: Any, shape: tuple[int, int]) -> Any:
    """The graph with the same arguments, auxiliary states and outputs. shape: height, width of its `data`.

    Predictors side by side become one convolution whose filters are filled up to full blocks: MXNet has no memory for
    oneDNN to fill them up itself, and of 84 channels the kernels take almost twice the time of 96. No gradient of zeros
    is computed for, and added to, the feature maps that anchors are laid on.

    Not MXNet's BatchNormWithReLU, 5 % quicker still: where its input comes in another memory layout than its gradient,
    as after a pooling or with 8 channels, gradients are wrong without a word (MXNet 1.9.1).
    """
    graph = Graph.of(symbol)
    _join_convolutions(graph, _argument_shapes(symbol, shape))
    for node in graph.nodes():
        if node.op == PRIOR:
            node.inputs = [Edge(Node("BlockGrad", f"{node.name}_input", {}, node.inputs), 0)]
    return graph.symbol()


def _argument_shapes(symbol: Any, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    shapes, _, _ = symbol.infer_shape(data=(1, 3, *shape), label=(1, 1, 6))
    return dict(zip(symbol.list_arguments(), shapes, strict=True))


def _join_convolutions(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> None:
    """One convolution for those of the same map and window, where some have filters that fill no block."""
    alike: dict[Any, list[Node]] = {}
    for node in graph.nodes():
        if node.op == "Convolution":
            window = tuple(sorted((key, value) for key, value in node.attrs.items() if key not in SEVERAL))
            alike.setdefault((node.inputs[0], len(node.inputs), window), []).append(node)
    made: dict[Edge, Edge] = {}
    for nodes in alike.values():
        filters = [int(node.attrs["num_filter"]) for node in nodes]
        if len(nodes) > 1 and nodes[0].groups == 1 and any(count % BLOCK for count in filters):
            made |= _joined(nodes, filters, shapes)
    graph.redirect(lambda edge: made.get(edge, edge))


def _joined(nodes: list[Node], filters: list[int], shapes: dict[str, tuple[int, ...]]) -> Iterable[tuple[Edge, Edge]]:
    """What to take instead of the outputs of these convolutions: channels of one."""
    name = "_and_".join(node.name for node in nodes)
    total = ceil(sum(filters) / BLOCK) * BLOCK
    parameters = []
    for place in range(1, len(nodes[0].inputs)):
        parts = [node.inputs[place] for node in nodes]
        for part in parts:  # nothing but they themselves says how long each part of a concatenation is
            part.node.attrs = {**part.node.attrs, "__shape__": str(shapes[part.node.name])}
        if total > sum(filters):
            empty = (total - sum(filters), *shapes[parts[0].node.name][1:])
            attrs = {"shape": str(empty), "dtype": "float32"}
            parts.append(Edge(Node("_zeros", f"{name}_{place}_zeros", attrs), 0))
        attrs = {"num_args": str(len(parts)), "dim": "0"}
        parameters.append(Edge(Node("Concat", f"{name}_{place}", attrs, parts), 0))
    attrs = {**nodes[0].attrs, "num_filter": str(total)}
    joined = Edge(Node("Convolution", name, attrs, [nodes[0].inputs[0], *parameters]), 0)
    first = 0
    for node, count in zip(nodes, filters, strict=True):
        channels = {"axis": "1", "begin": str(first), "end": str(first + count)}
        yield Edge(node, 0), Edge(Node("slice_axis", node.name, channels, [joined]), 0)
        first += count
