"""The train graph as MXNet Modules: one per input shape, all of the same parameters."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ssd.config.parts import NetworkConfig, TrainerConfig
from ssd.graph_passes.fuse import fused
from ssd.graph_passes.mixed_precision import FULL, lowered
from ssd.mxnet_compat import mx
from ssd.symbol import build_train
from ssd.training.groups import BACKBONE, group_of
from ssd.training.module_adapter import ModuleAdapter

NMS = "det_out_output"  # of the original's graph, where it runs in every step to be thrown away

Shape = tuple[int, int]  # height, width


class Graphs:
    """The train graph for every shape that batches may have; `base` is that of evaluation, which is saved."""

    def __init__(self, config: TrainerConfig, num_classes: int, data: Any) -> None:
        """data: anything with provide_data. Errors: UserError when nothing is left of a feature map at some shape."""
        self._bytes = np.dtype(data.provide_data[0].dtype) == np.uint8
        self._input = config.network.input
        self._freeze_bn = config.init.freeze_bn
        self._precision = config.precision
        self._by_onednn = config.device.name == "cpu" and mx.runtime.Features().is_enabled("MKLDNN")
        self._graphs = {shape: _graph(config.network.at(shape), num_classes) for shape in config.shapes}
        self._shape = self._input.shape
        self.base = self._graphs[self._shape]

    def largest(self, shape: Shape) -> Shape:
        """Of the shapes that batches may have; `shape` is that of the data, which may be another than configured."""
        return max([shape, *(each for each in self._graphs if each != self._shape)], key=lambda each: each[0] * each[1])

    def bound(self, shape: Shape) -> Any:
        """The graph as it is bound: fused for the CPU, in the precision of training, and with bytes normalized on the
        device, a quarter of the copying of floats.

        The saved one has float input as evaluation gives it; the parameters are the same.
        """
        symbol = self._graphs.get(shape, self.base)
        if self._freeze_bn:
            symbol = with_frozen_bn(symbol)
        if self._by_onednn:
            symbol = fused(symbol, shape)
        if self._precision != FULL:
            symbol = lowered(symbol, self._precision, shape)
        if not self._bytes:
            return symbol
        pixels = mx.sym.Cast(mx.sym.Variable("data"), dtype="float32", name="data_float")
        mean, std = self._input.mean, self._input.std
        return symbol(data=mx.sym.image.normalize(pixels, mean=mean, std=std, name="data_normalised"))


class Modules:
    """owner: the module of the largest shape, which has parameters, optimizer and memory. The others are bound when a
    batch of their shape comes; they share its arrays."""

    def __init__(self, graphs: Graphs, data: Any, devices: Sequence[Any], frozen: Sequence[str], passes: int) -> None:
        """passes: that a batch is run in, each of an equal part of its images; gradients add up over several."""
        self._graphs = graphs
        self._passes = passes
        self._devices = list(devices)
        self._frozen = list(frozen)
        self._names = [[name for name, _ in part] for part in (data.provide_data, data.provide_label)]
        described = data.provide_data[0]
        shape = graphs.largest(tuple(described.shape[2:]))
        self.owner = self._module(shape)
        largest = mx.io.DataDesc(described.name, (*described.shape[:2], *shape), dtype=described.dtype)
        self._bind(self.owner, [largest], data.provide_label)
        self._modules: dict[Shape, ModuleAdapter] = {shape: self.owner}

    def of(self, batch: Any) -> ModuleAdapter:
        """The module that parts(batch) go through."""
        shape = tuple(batch.data[0].shape[2:])
        if shape not in self._modules:
            module = self._module(shape)
            self._bind(module, batch.provide_data, batch.provide_label, self.owner)
            self._modules[shape] = module
        return self._modules[shape]

    def parts(self, batch: Any) -> Iterator[Any]:
        """The images of a batch, those of one pass after the other; views, no copies."""
        size = batch.data[0].shape[0] // self._passes
        for first in range(0, size * self._passes, size):
            data, label = ([array[first : first + size] for array in part] for part in (batch.data, batch.label))
            yield mx.io.DataBatch(data, label, pad=0)

    def _bind(
        self, module: ModuleAdapter, data: Sequence[Any], label: Sequence[Any], shared: ModuleAdapter | None = None
    ) -> None:
        data, label = ([_divided(each, self._passes) for each in part] for part in (data, label))
        module.bind(data, label, shared, add=self._passes > 1)

    def _module(self, shape: Shape) -> ModuleAdapter:
        data_names, label_names = self._names
        return ModuleAdapter.create(self._graphs.bound(shape), data_names, label_names, self._devices, self._frozen)


def _divided(described: Any, passes: int) -> Any:
    """Description of an array of one pass."""
    images, *rest = described.shape
    return mx.io.DataDesc(described.name, (images // passes, *rest), dtype=described.dtype)


def with_frozen_bn(symbol: Any) -> Any:
    """The graph whose backbone normalizes by the running means and variances, in training too, and leaves them."""
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        if node["op"] == "BatchNorm" and group_of(node["name"]) == BACKBONE:
            node["attrs"]["use_global_stats"] = "True"
    return mx.sym.load_json(json.dumps(graph))


def _graph(network: NetworkConfig, num_classes: int) -> Any:
    graph = build_train(network, num_classes)
    return mx.sym.Group([output for output, name in zip(graph, graph.list_outputs(), strict=True) if name != NMS])
