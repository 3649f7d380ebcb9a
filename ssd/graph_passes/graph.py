"""MXNet graphs taken apart into nodes, changed, and put together again.

MXNet's Python interface composes symbols but cannot replace a node inside of one. Its JSON form can be changed freely.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ssd.mxnet_compat import mx

VARIABLE = "null"  # the "operator" of inputs and parameters
PRIOR = "_contrib_MultiBoxPrior"


class Edge(NamedTuple):
    """An output of a node."""

    node: "Node"
    output: int


@dataclass(eq=False)
class Node:
    """An operator with its attributes as MXNet writes them, all text; or a variable."""

    op: str
    name: str
    attrs: dict[str, str] = field(default_factory=dict)
    inputs: list[Edge] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict)  # subgraphs of fused operators

    @property
    def groups(self) -> int:
        """Of a convolution."""
        return int(self.attrs.get("num_group", "1"))


@dataclass
class Graph:
    """What a symbol computes: its outputs, and through them every node."""

    outputs: list[Edge]
    attrs: dict[str, Any]  # the version that wrote it

    @classmethod
    def of(cls, symbol: Any) -> "Graph":
        stored = json.loads(symbol.tojson())
        nodes: list[Node] = []
        for entry in stored["nodes"]:
            inputs = [Edge(nodes[number], output) for number, output, *_ in entry.pop("inputs")]
            nodes.append(Node(entry.pop("op"), entry.pop("name"), entry.pop("attrs", {}), inputs, entry))
        return cls([Edge(nodes[number], output) for number, output, *_ in stored["heads"]], stored.get("attrs", {}))

    def nodes(self) -> list[Node]:
        """All that the outputs depend on, inputs before what uses them."""
        order: list[Node] = []
        seen: set[Node] = set()
        stack = [(output.node, False) for output in reversed(self.outputs)]
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack += [(edge.node, False) for edge in reversed(node.inputs) if edge.node not in seen]
        return order

    def symbol(self) -> Any:
        nodes = self.nodes()
        number = {node: index for index, node in enumerate(nodes)}
        stored = {
            "nodes": [
                {
                    "op": node.op,
                    "name": node.name,
                    **({"attrs": node.attrs} if node.attrs else {}),
                    "inputs": [[number[edge.node], edge.output, 0] for edge in node.inputs],
                    **node.rest,
                }
                for node in nodes
            ],
            "arg_nodes": [index for index, node in enumerate(nodes) if node.op == VARIABLE],
            "node_row_ptr": list(range(len(nodes) + 1)),
            "heads": [[number[edge.node], edge.output, 0] for edge in self.outputs],
            "attrs": self.attrs,
        }
        return mx.sym.load_json(json.dumps(stored))

    def users(self) -> dict[Node, list[Node]]:
        """Of each node, the nodes that take one of its outputs, once per input."""
        users: dict[Node, list[Node]] = {}
        for node in self.nodes():
            for edge in node.inputs:
                users.setdefault(edge.node, []).append(node)
        return users

    def redirect(self, moved: Callable[[Edge], Edge]) -> None:
        """Every user of an output, and the outputs of the graph, take what `moved` says instead."""
        for node in self.nodes():
            node.inputs = [moved(edge) for edge in node.inputs]
        self.outputs = [moved(edge) for edge in self.outputs]
