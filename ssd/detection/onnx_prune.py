"""Part of an ONNX file, cut out without the package onnx, which running a file does not need.

ONNX Runtime computes everything in a file, whatever is asked of it; suppression that nobody asks for took a tenth of
MobileNet's time.

Numbers of fields after ONNX's published format (onnx.proto): ModelProto graph 7; GraphProto node 1, output 12;
NodeProto input 1, output 2, op_type 4; ValueInfoProto name 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ssd.utils.protobuf import View, fields, head, whole_fields

GRAPH, NODE, INPUT, OUTPUT, VALUE = 7, 1, 11, 12, 13
WITH_BODIES = {"If", "Loop", "Scan"}  # which may need anything


class _Node(NamedTuple):
    inputs: set[str]
    outputs: set[str]
    op: str


def between(file: View, inputs: Sequence[str], outputs: Sequence[str]) -> list[View | bytes]:
    """The file, piece by piece, from these inputs to these outputs, without what they do not need.

    Either may be values inside of the graph whose shapes it gives (value_info). Errors: WireError.
    """
    parts: list[View | bytes] = []
    for number, value, whole in whole_fields(file):
        if number == GRAPH and isinstance(value, View):
            kept = _cut(value, set(inputs), set(outputs))
            parts += [head(GRAPH, sum(map(len, kept))), *kept]
        else:
            parts.append(whole)
    return parts


def _cut(graph: View, inputs: set[str], outputs: set[str]) -> list[View | bytes]:
    """The fields of the graph that stay."""
    contents = list(whole_fields(graph))
    nodes = [_node(value) for number, value, _ in contents if number == NODE and isinstance(value, View)]
    needed = iter(_needed(nodes, inputs, outputs))
    kept: list[View | bytes] = []
    for number, value, whole in contents:
        if not isinstance(value, View) or number not in (NODE, INPUT, OUTPUT, VALUE):
            kept.append(whole)
        elif number == NODE:
            kept += [whole] if next(needed) else []
        else:
            kept += _value(value, inputs, outputs) or ([whole] if number == VALUE else [])
    return kept


def _value(value: View, inputs: set[str], outputs: set[str]) -> list[View | bytes]:
    """A named value as the input or output that it becomes, if it does."""
    name = _name(value)
    number = INPUT if name in inputs else OUTPUT if name in outputs else None
    return [head(number, len(value)), value] if number else []


def _needed(nodes: Sequence[_Node], inputs: set[str], outputs: set[str]) -> list[bool]:
    """Whether each of the nodes, which come after all that they read, is needed for the outputs, given the inputs."""
    if any(node.op in WITH_BODIES for node in nodes):
        return [True] * len(nodes)
    wanted = outputs - inputs
    needed = []
    for node in reversed(nodes):
        needed.append(bool(node.outputs & wanted))
        if needed[-1]:
            wanted |= node.inputs - inputs
    return needed[::-1]


def _node(message: View) -> _Node:
    found: dict[int, list[str]] = {1: [], 2: [], 4: []}
    for number, value in fields(message):
        if number in found and isinstance(value, View):
            found[number].append(_text(value))
    return _Node(set(found[1]), set(found[2]), "".join(found[4]))


def _name(message: View) -> str:
    return next((_text(value) for number, value in fields(message) if number == 1 and isinstance(value, View)), "")


def _text(value: View) -> str:
    return str(value, "utf-8", "replace")
