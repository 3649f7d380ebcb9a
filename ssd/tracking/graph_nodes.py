"""A network as a list of named nodes, for those who draw it."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssd.mxnet_compat import mx


@dataclass(frozen=True)
class GraphNode:
    """One operation, input or parameter of the network."""

    name: str  # a path: nodes that belong together share its beginning
    operator: str
    inputs: Sequence[str]  # names of nodes, "name:1" for an output that is not the first
    shapes: Sequence[tuple[int, ...]]  # of its outputs
    attributes: Mapping[str, str]


HEAD = re.compile(r"(?P<layer>.+?)_(?P<rest>(?:cls_pred|loc_pred|anchors).*)")
LOSS = re.compile(r"multibox_target|negatives_|cls_|loc_")
UNNAMED = re.compile(r"_.*|zeros_like\d+")  # named by MXNet: sums, comparisons
TOKEN = re.compile(r"(?<!^multi)_(?!\d)")  # "conv_1_relu" is conv_1, relu; "multi_feat_2_relu" multi_feat_2, relu


def graph_nodes(symbol: mx.sym.Symbol, shapes: Mapping[str, tuple[int, ...]]) -> list[GraphNode]:
    """Every operation, input and parameter of a graph, with the shapes of its outputs; inputs before their users.

    shapes: of the graph's inputs. Names become paths that group what belongs together: the parameters of an operation
    in it, and operations by the parts of their names ("stage1_unit2_conv1" -> "stage1/unit2/conv1"); what makes
    predictions out of features is in head/, what only training needs in loss/.
    """
    internals = symbol.get_internals()
    graph = json.loads(internals.tojson())
    _, found, _ = internals.infer_shape(**shapes)
    outputs: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for (index, *_), shape in zip(graph["heads"], found, strict=True):
        outputs[index].append(tuple(shape))
    paths = _paths(graph["nodes"])
    return [
        GraphNode(
            name=paths[index],
            operator=node["op"] if node["op"] != "null" else "Input" if node["name"] in shapes else "Parameter",
            inputs=[f"{paths[source]}:{output}" if output else paths[source] for source, output, _ in node["inputs"]],
            shapes=outputs[index],
            attributes={key: value for key, value in node.get("attrs", {}).items() if not key.startswith("__")},
        )
        for index, node in enumerate(graph["nodes"])
    ]


def _paths(nodes: Sequence[dict[str, Any]]) -> list[str]:
    """A path for every node of a graph, all different."""
    operations = {index: _parts(node["name"]) for index, node in enumerate(nodes) if node["op"] != "null"}
    shared = Counter(tuple(parts[:depth]) for parts in operations.values() for depth in range(1, len(parts)))
    paths = [node["name"] for node in nodes]
    for index, parts in operations.items():
        name, sources = nodes[index]["name"], [source for source, *_ in nodes[index]["inputs"]]
        paths[index] = _grouped(parts, shared)
        if UNNAMED.fullmatch(name) and sources:  # beside what it works on
            paths[index] = "/".join([*paths[sources[0]].split("/")[:-1], name])
        for source in sources:
            variable = nodes[source]["name"]
            if nodes[source]["op"] == "null" and variable.startswith(f"{name}_"):
                paths[source] = f"{paths[index]}/{variable.removeprefix(f'{name}_')}"
    return paths


def _parts(name: str) -> list[str]:
    if LOSS.match(name):
        return ["loss", name]
    if match := HEAD.fullmatch(name):
        return ["head", match["layer"], match["rest"]]
    return TOKEN.split(name)


def _grouped(parts: Sequence[str], shared: Mapping[tuple[str, ...], int]) -> str:
    """The parts as a path, without a group for a node alone."""
    path = parts[0]
    for depth, part in enumerate(parts[1:], start=1):
        path += ("/" if shared[tuple(parts[:depth])] > 1 else "_") + part
    return path
