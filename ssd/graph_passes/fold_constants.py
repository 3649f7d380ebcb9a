"""What of a graph depends on nothing but the anchors, as numbers."""

from typing import Any

from ssd.checkpoint.model import Params
from ssd.graph_passes.graph import PRIOR, VARIABLE, Edge, Graph, Node
from ssd.mxnet_compat import mx


def with_constants(symbol: Any, arg_params: Params, data_shape: tuple[int, int, int]) -> tuple[Any, Params]:
    """The graph with everything that depends on the anchors alone computed now, and its arguments.

    Anchors (MultiBoxPrior) depend on the shape of a feature map, and so, in a network whose input has one shape
    [3, H, W], on nothing. The values come from MXNet itself.
    """
    graph = Graph.of(symbol)
    _free_priors(graph, data_shape)
    fixed: set[Node] = set()
    for node in graph.nodes():
        if node.op != VARIABLE and all(edge.node in fixed for edge in node.inputs):
            fixed.add(node)
    used = [edge for node in graph.nodes() if node not in fixed for edge in node.inputs] + graph.outputs
    constants = list(dict.fromkeys(edge for edge in used if edge.node in fixed))
    if not constants:
        return symbol, arg_params
    executor = Graph(constants, graph.attrs).symbol().bind(mx.cpu(), args={}, grad_req="null")
    arrays = executor.forward(is_train=False)
    made: dict[Edge, Edge] = {}
    args = dict(arg_params)
    for edge, array in zip(constants, arrays, strict=True):
        name = _free_name(edge, args)
        args[name] = array.copy()
        made[edge] = Edge(Node(VARIABLE, name, {"__shape__": str(array.shape)}), 0)
    graph.redirect(lambda edge: made.get(edge, edge))
    return graph.symbol(), args


def _free_priors(graph: Graph, data_shape: tuple[int, int, int]) -> None:
    """MultiBoxPrior looks at the shape of its input only: gives it zeros of that shape."""
    priors = [node for node in graph.nodes() if node.op == PRIOR]
    if not priors:
        return
    features = Graph([node.inputs[0] for node in priors], graph.attrs).symbol()
    shapes = features.infer_shape(data=(1, *data_shape))[1]
    for node, shape in zip(priors, shapes, strict=True):
        node.inputs = [Edge(Node("_zeros", f"{node.name}_input", {"shape": str(shape)}), 0)]


def _free_name(edge: Edge, taken: Params) -> str:
    name = f"{edge.node.name}_{edge.output}" if edge.output else edge.node.name
    while name in taken:
        name += "_"
    return name
