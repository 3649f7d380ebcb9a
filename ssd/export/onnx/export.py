"""MXNet networks as ONNX: one file from an image to boxes.

Input `images` float32 [B, 3, H, W]: RGB 0..255, resized; mean and std are inside. Outputs: `detection` [B, K, 6], rows
(class or -1, score, xmin, ymin, xmax, ymax in shares of the input), and what it is chosen from, `cls_prob` [B, C+1, N]
and `boxes` [B, N, 4]. The batch size is free; classes, input, preprocessing and thresholds are in the metadata.
With ssd.export.onnx.pixels around it the input is an `image` of any size, and `detection` in its pixels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_format
from onnx import TensorProto, helper

from ssd.checkpoint.model import ModelSpec, Params
from ssd.detection.onnx_file import to_metadata
from ssd.export.onnx.builder import OPSET, Builder, Layer, Shape
from ssd.export.onnx.operators import OPERATORS
from ssd.export.onnx.suppression import add_original_suppression, add_suppression
from ssd.export.suppression import check_hard
from ssd.graph_passes.fold_batch_norm import fold_batch_norm, fold_input
from ssd.graph_passes.fold_constants import with_constants
from ssd.graph_passes.graph import VARIABLE, Edge, Graph, Node
from ssd.ops.boxes import DecodeParams
from ssd.utils.atomic_files import atomic_write
from ssd.utils.errors import UserError

IR_VERSION = 8  # of the file format, as old as the operator set


def to_onnx(spec: ModelSpec, graph: Any, arg_params: Params, aux_params: Params) -> onnx_format.ModelProto:
    """A graph with outputs [cls_prob [B, C+1, N], boxes [B, N, 4] corners in 0..1] on `data` [B, 3, H, W] as ONNX.

    With spec.compat suppression is the original's. Errors: UserError naming operators that have no ONNX form.
    """
    shape = (3, spec.height, spec.width)
    graph, arg_params = with_constants(graph, arg_params, shape)
    graph, arg_params, aux_params = fold_batch_norm(graph, arg_params, aux_params)
    graph, arg_params, (shift, scale) = fold_input(graph, (arg_params, aux_params), spec.mean, spec.std)
    onnx = Builder()
    parameters = {name: array.asnumpy() for name, array in {**arg_params, **aux_params}.items()}
    (_, channels, anchors), _ = graph.infer_shape(data=(1, *shape))[1]
    outputs = _translate(onnx, graph, parameters, {"data": _normalized(onnx, shift, scale)}, shape)
    for name, output in zip(("cls_prob", "boxes"), outputs, strict=True):
        _rename(onnx, output, name)
    return _whole(onnx, spec, channels - 1, anchors)


def write_onnx(path: Path, model: onnx_format.ModelProto, description: dict[str, Any]) -> None:
    """Checks the model and writes it with its description, whole or not at all."""
    helper.set_model_props(model, to_metadata(description))
    onnx_format.checker.check_model(model, full_check=True)
    with atomic_write(path) as draft:
        draft.write_bytes(model.SerializeToString())


def _whole(onnx: Builder, spec: ModelSpec, classes: int, anchors: int) -> onnx_format.ModelProto:
    params = DecodeParams(**spec.detection)
    check_hard(params)
    suppress = add_original_suppression if spec.compat else add_suppression
    detection = suppress(onnx, params, classes, anchors)
    images = _value("images", ("batch", 3, spec.height, spec.width))
    outputs = [
        _value(detection, ("batch", None, 6)),
        _value("cls_prob", ("batch", classes + 1, anchors)),
        _value("boxes", ("batch", anchors, 4)),
    ]
    graph = helper.make_graph(onnx.nodes, "ssd", [images], outputs, onnx.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="ssd")
    model.ir_version = IR_VERSION
    return model


def _value(name: str, shape: tuple[Any, ...]) -> onnx_format.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _normalized(onnx: Builder, shift: np.ndarray, scale: np.ndarray) -> str:
    """(images - shift) / scale, without the steps that change nothing."""
    data = "images"
    if shift.any():
        data = onnx.add("Sub", [data, onnx.constant(_per_channel(shift), "mean")], "centered")
    if (scale != 1).any():
        data = onnx.add("Div", [data, onnx.constant(_per_channel(scale), "std")], "normalised")
    return data


def _per_channel(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).reshape(1, -1, 1, 1)


def _translate(
    onnx: Builder, symbol: Any, parameters: Mapping[str, np.ndarray], inputs: dict[str, str], shape: Shape
) -> list[str]:
    """Adds all nodes of a graph; returns the names of its outputs. inputs: ONNX names of variables that are given."""
    graph = Graph.of(symbol)
    nodes = graph.nodes()
    if unknown := {node.op: node.name for node in nodes if node.op not in OPERATORS and node.op != VARIABLE}:
        named = ", ".join(f"{op} (of {name})" for op, name in sorted(unknown.items()))
        raise UserError(f"operators that cannot be exported to ONNX: {named}")
    shapes = _shapes(symbol, shape)
    names: dict[Edge, str] = {}
    for node in nodes:
        if node.op == VARIABLE:
            names[Edge(node, 0)] = _variable(onnx, node.name, parameters, inputs)
            continue
        layer = Layer(
            node.op, node.name, node.attrs,
            [names[edge] for edge in _used(node)],
            [shapes[_label(edge)] for edge in _used(node)],
            [value for key, value in shapes.items() if key in (f"{node.name}_output", f"{node.name}_output0")],
        )  # fmt: skip
        added = OPERATORS[node.op](layer, onnx)
        for index, name in enumerate([added] if isinstance(added, str) else added):
            names[Edge(node, index)] = name
    return [names[edge] for edge in graph.outputs]


def _used(node: Node) -> list[Edge]:
    """Inputs but for labels, which only training has."""
    return node.inputs[:1] if node.op in ("SoftmaxOutput", "Crop") else node.inputs


def _variable(onnx: Builder, name: str, parameters: Mapping[str, np.ndarray], inputs: dict[str, str]) -> str:
    if name in inputs:
        return inputs[name]
    if name not in parameters:
        return name  # a label: nothing takes it
    return onnx.constant(parameters[name], name)


def _shapes(symbol: Any, shape: Shape) -> dict[str, Shape]:
    """Of every output of every node, for a batch of one."""
    inside = symbol.get_internals()
    return dict(zip(inside.list_outputs(), inside.infer_shape(data=(1, *shape))[1], strict=True))


def _label(edge: Edge) -> str:
    """What MXNet calls an output."""
    if edge.node.op == VARIABLE:
        return edge.node.name
    several = edge.node.op == "SliceChannel"
    return f"{edge.node.name}_output{edge.output}" if several else f"{edge.node.name}_output"


def _rename(onnx: Builder, output: str, name: str) -> None:
    if output != name:
        onnx.add("Identity", [output], name)
