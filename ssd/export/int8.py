"""MXNet networks with convolutions in 8 bits, by oneDNN on CPUs."""

import ctypes
from collections.abc import Iterable
from typing import Any

import numpy as np

from ssd.checkpoint.model import Model, Params
from ssd.export.calibration import Histogram, Range, activations, check_method, ranges
from ssd.graph_passes.fold_constants import with_constants
from ssd.graph_passes.graph import VARIABLE, Graph, Node
from ssd.mxnet_compat import mx

BACKEND = "MKLDNN_QUANTIZE"
CONVOLUTION = "_sg_mkldnn_conv"  # with what is fused into it


class _Collector:
    """What MXNet's quantization asks for: it is shown activations, and says their ranges."""

    def __init__(self, names: set[str], method: str) -> None:
        self._names, self._method = names, method
        self._histograms: dict[str, Histogram] = {}

    def collect(self, name: Any, handle: Any) -> None:
        name = name.decode() if isinstance(name, bytes) else name
        if name in self._names:
            array = mx.nd.NDArray(ctypes.cast(handle, mx.base.NDArrayHandle), writable=False)
            self._histograms.setdefault(name, Histogram()).add(array.asnumpy())

    @property
    def min_max_dict(self) -> dict[str, Range]:
        return ranges(self._histograms, self._method)


def quantize(model: Model, graph: Any, images: Iterable[np.ndarray], method: str) -> tuple[Any, Params, Params]:
    """The graph [cls_prob, boxes] of a model in 8 bits, and its parameters.

    images: batches float32 [B, 3, H, W], normalized. method: see calibration.METHODS. What follows the last
    convolutions stays in float32: it decides about pixels. Weights are rounded per channel when the graph is bound.
    """
    check_method(method)
    graph, args = with_constants(graph, model.arg_params, (3, model.spec.height, model.spec.width))
    names = set(graph.list_arguments())
    args = {name: array for name, array in args.items() if name in names}
    fused = graph.get_backend_symbol(BACKEND)
    body, after = _parts(fused)
    collector = _Collector({"data", *(f"{name}_output" for name in body)}, method)
    _show(fused, (args, model.aux_params), images, collector)
    shared: Any = {"calib_mode": "customize", "quantized_dtype": "auto", "logger": None}
    quantized, _, _, _ = mx.contrib.quantization.quantize_graph(
        fused, args, model.aux_params, excluded_sym_names=after, quantize_mode="smart", LayerOutputCollector=collector,
        **shared,
    )  # fmt: skip
    quantized, args, aux = mx.contrib.quantization.calib_graph(quantized, args, model.aux_params, collector, **shared)
    return quantized.get_backend_symbol(BACKEND), args, aux


def _parts(symbol: Any) -> tuple[list[str], list[str]]:
    """Names of the operators up to the last convolutions, and of those after them."""
    graph = Graph.of(symbol)
    followed: set[Node] = set()  # by a convolution
    for node in reversed(graph.nodes()):
        if node.op == CONVOLUTION or node in followed:
            followed.update(edge.node for edge in node.inputs)
    nodes = [node for node in graph.nodes() if node.op != VARIABLE]
    body = [node.name for node in nodes if node.op == CONVOLUTION or node in followed]
    return body, [node.name for node in nodes if node.name not in body]


def _show(symbol: Any, params: tuple[Params, Params], images: Iterable[np.ndarray], collector: _Collector) -> None:
    """Lets the collector see the activations of all images."""
    for outputs in activations(symbol, params, images, collector.collect):
        for output in outputs:
            output.wait_to_read()
