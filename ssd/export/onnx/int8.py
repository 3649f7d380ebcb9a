"""ONNX networks with convolutions in 8 bits, in the standard's form: QuantizeLinear and DequantizeLinear around them,
from which a runtime makes convolutions of integers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx as onnx_format
import onnxruntime
from onnx import helper, numpy_helper

from ssd.checkpoint.model import ModelSpec
from ssd.export.biases import LEVELS
from ssd.export.calibration import Histogram, Range, check_method, one_by_one, ranges

LARGEST_BIAS = 2**30


def quantize(
    model: onnx_format.ModelProto, spec: ModelSpec, images: Iterable[np.ndarray], method: str
) -> onnx_format.ModelProto:
    """A model of this package in 8 bits: weights signed and per channel, activations unsigned.

    images: batches float32 [B, 3, H, W], normalized. method: see calibration.METHODS. What follows the last
    convolutions stays in float32: it decides about pixels.
    """
    check_method(method)
    graph = model.graph
    sources = _tensors(graph)
    levels = (image * _channels(spec.std) + _channels(spec.mean) for image in one_by_one(images))
    measured = ranges(_histograms(model, sorted(set(sources.values())), levels), method)
    scales = {tensor: Scale.of(measured[source]) for tensor, source in sources.items()}
    quantized = onnx_format.ModelProto()
    quantized.CopyFrom(model)
    _Rewriter(quantized.graph, scales).rewrite()
    return quantized


@dataclass(frozen=True)
class Scale:
    """value = (level - zero) * step, level 0..255."""

    step: np.float32
    zero: np.uint8

    @classmethod
    def of(cls, limits: Range) -> "Scale":
        low, high = limits
        step = max((high - low) / 255, 1e-12)
        return cls(np.float32(step), np.uint8(np.clip(round(-low / step), 0, 255)))


def _tensors(graph: Any) -> dict[str, str]:
    """The tensors to round, and the tensor whose range each takes: inputs and results of convolutions, and what
    pooling picks from these."""
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    found: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Conv":
            found.setdefault(node.input[0], node.input[0])
            result = node.output[0]
            if [user.op_type for user in users[result]] == ["Relu"]:
                result = users[result][0].output[0]
            found.setdefault(result, result)
        elif node.op_type == "MaxPool" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _histograms(
    model: onnx_format.ModelProto, tensors: list[str], images: Iterable[np.ndarray]
) -> dict[str, Histogram]:
    """Of the tensors' values on all images."""
    shown = onnx_format.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    histograms: dict[str, Histogram] = {}
    for image in images:
        for name, values in zip(tensors, session.run(tensors, {"images": image}), strict=True):
            histograms.setdefault(name, Histogram()).add(values)
    return histograms


class _Rewriter:
    """Puts the nodes of rounding into a graph."""

    def __init__(self, graph: Any, scales: Mapping[str, Scale]) -> None:
        self._graph = graph
        self._scales = scales
        self._weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._nodes: list[Any] = []

    def rewrite(self) -> None:
        rounded = {name: f"{name}/rounded" for name in self._scales}
        for node in list(self._graph.node):
            for place, name in enumerate(node.input):
                node.input[place] = rounded.get(name, name)
            if node.op_type == "Conv":
                self._round_parameters(node)
            self._nodes.append(node)
            for name in node.output:
                if name in self._scales:
                    self._round(name, rounded[name])
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _round(self, name: str, result: str) -> None:
        scale = self._scales[name]
        numbers = [self._constant(scale.step, f"{name}/step"), self._constant(scale.zero, f"{name}/zero")]
        self._nodes.append(helper.make_node("QuantizeLinear", [name, *numbers], [f"{name}/levels"]))
        self._nodes.append(helper.make_node("DequantizeLinear", [f"{name}/levels", *numbers], [result]))

    def _round_parameters(self, node: Any) -> None:
        """Weights as int8, a step per channel; biases as int32 in steps of weight times input, as sums are."""
        weight = self._weights[node.input[1]]
        bias = self._weights[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        step = self._scales[node.input[0].removesuffix("/rounded")].step
        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        # A channel of tiny weights and a large bias must not overflow.
        steps = np.maximum(largest / LEVELS, np.abs(bias) / step / LARGEST_BIAS)
        steps = np.where(steps > 0, steps, 1).astype(np.float32)
        levels = np.clip(np.round(weight / steps.reshape(-1, 1, 1, 1)), -LEVELS, LEVELS).astype(np.int8)
        node.input[1] = self._parameter(levels, steps, f"{node.name}/weight")
        if len(node.input) > 2:
            sums = np.round(bias.astype(np.float64) / (steps * step)).astype(np.int32)
            node.input[2] = self._parameter(sums, steps * step, f"{node.name}/bias")

    def _parameter(self, levels: np.ndarray, steps: np.ndarray, name: str) -> str:
        zeros = np.zeros(len(steps), levels.dtype)
        numbers = [self._constant(values, f"{name}{end}") for values, end in
                   ((levels, "_levels"), (steps, "_steps"), (zeros, "_zero"))]  # fmt: skip
        self._nodes.append(helper.make_node("DequantizeLinear", numbers, [name], axis=0))
        return name

    def _constant(self, values: np.ndarray | np.generic, name: str) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name


def _channels(values: list[float]) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 3, 1, 1)
