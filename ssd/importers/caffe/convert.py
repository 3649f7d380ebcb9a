"""A Caffe network as an MXNet graph, and on disk: a detector as a bundle, any other network as MXNet's two files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssd.checkpoint.model import ModelSpec, Params, attach_spec
from ssd.export.bundle import write_bundle
from ssd.importers.caffe import convolutions, detection, pointwise, priors, shapes  # noqa: F401  they register converters
from ssd.importers.caffe.fold import folded
from ssd.importers.caffe.graph import CONVERTERS, INPUTS, Graph, Heads, UnsupportedError, Value, format_shape
from ssd.importers.caffe.layers import Layer, Network, read_network, with_weights
from ssd.importers.caffe.loose import LooseHeads
from ssd.importers.caffe.wire import read_weights
from ssd.mxnet_compat import mx
from ssd.utils.atomic_files import atomic_dir
from ssd.utils.errors import UserError

SUPPORTED = tuple(sorted(CONVERTERS))
MAX_TOLD = 20  # problems in one message


@dataclass(frozen=True)
class Options:
    """channels: "BGR" or "RGB", what the network was trained on. mean_image: float32 [3, H, W], RGB, in units of the
    network's input, subtracted by the graph. fold: whether BatchNorm and Scale vanish where they can. loose: anchors
    for a network that ends with its predictions."""

    channels: str
    mean_image: np.ndarray | None
    fold: bool
    loose: LooseHeads | None


@dataclass(frozen=True)
class Row:
    """A layer in the table of the conversion. shapes: of what it writes, with a batch of one."""

    name: str
    type: str
    shapes: str
    numbers: int
    note: str


@dataclass(frozen=True)
class Converted:
    """graph: reads `data` [B, 3, H, W], RGB. For a detector (heads is not None) its outputs are cls_prob [B, C + 1, N]
    and boxes [B, N, 4]; otherwise the network's. outputs: the arrays to compare, by the layer that writes them: the
    network's own outputs and what a DetectionOutput layer reads. The parameters are those of all these."""

    graph: Any
    arg_params: dict[str, Any]
    aux_params: dict[str, Any]
    input_shape: tuple[int, ...]
    heads: Heads | None
    outputs: dict[str, Value]
    rows: list[Row]


def load(prototxt: Path, caffemodel: Path) -> Network:
    """Layers with their arrays. Errors: UserError, see read_network and read_weights."""
    network = read_network(prototxt, SUPPORTED)
    if len(network.input_shape) != 4 or network.input_shape[1] != 3 or min(network.input_shape) < 1:
        raise UserError(f"{prototxt}: its input is {format_shape(network.input_shape)}, expected color images 1x3xHxW")
    return with_weights(network, read_weights(caffemodel))


def convert(network: Network, options: Options) -> Converted:
    """Errors: UserError that lists all layers that cannot be converted, with the reason."""
    original = network
    gone: dict[str, str] = {}
    if options.fold:
        network, gone = folded(network)
    with mx.name.NameManager():
        swap = options.channels == "BGR"
        graph = Graph(network.input, (1, *network.input_shape[1:]), swap and _only_convolutions(network))
        values, problems = _run(graph, network, _input(graph, options))
        _log_report(problems)
        outputs = _compared(original, values)
        if options.loose and not graph.heads:
            graph.heads = options.loose.heads(graph, outputs)
        symbol = mx.sym.Group(_symbols(graph, outputs, original))
    args = {name: mx.nd.array(array) for name, array in graph.arg_params.items()}
    aux = {name: mx.nd.array(array) for name, array in graph.aux_params.items()}
    written = {layer.name: layer.tops for layer in network.layers}  # by a folded pair: what the second one wrote
    rows = [_row(layer, [values.get(top) for top in written.get(layer.name, ())], gone) for layer in original.layers]
    return Converted(symbol, args, aux, graph.input_shape, graph.heads, outputs, rows)


def _only_convolutions(network: Network) -> bool:
    """Whether the order of channels can be changed in weights: all that reads the input are ordinary convolutions."""
    readers = [layer for layer in network.layers if layer.bottoms and network.input == layer.bottoms[0]]
    return all(layer.type == "Convolution" and layer.options.convolution_param.group == 1 for layer in readers)


def _input(graph: Graph, options: Options) -> Value:
    """`data`, RGB, as the first layer wants it."""
    symbol = mx.sym.Variable("data")
    if options.mean_image is not None:
        if options.mean_image.shape != graph.input_shape[1:]:
            raise UserError(
                f"mean image {format_shape(options.mean_image.shape)} for an input "
                f"{format_shape(graph.input_shape[1:])}"
            )
        symbol = mx.sym.broadcast_sub(symbol, graph.parameter("mean_image", options.mean_image[None]))
    if options.channels == "BGR" and not graph.swap:
        parts = [mx.sym.slice_axis(symbol, axis=1, begin=number, end=number + 1) for number in (2, 1, 0)]
        symbol = mx.sym.Concat(*parts, dim=1, name=graph.name("bgr"))
    try:
        return graph.value(symbol, graph.input_shape)
    except UnsupportedError as problem:
        raise UserError(f"the network's input: {problem}") from problem


def _run(graph: Graph, network: Network, start: Value) -> tuple[dict[str, Value | None], list[str]]:
    """All arrays by name, None where a layer before could not be converted; and what was wrong with which layer."""
    values: dict[str, Value | None] = {network.input: start}
    problems = []
    for layer in network.layers:
        bottoms = [values[name] for name in layer.bottoms]
        known = [value for value in bottoms if value is not None]
        values |= dict.fromkeys(layer.tops)
        if len(known) < len(bottoms):
            continue
        try:
            values |= dict(zip(layer.tops, _converted(graph, layer, known), strict=True))
        except UnsupportedError as problem:
            problems.append(f"{layer.name!r} ({layer.type}): {problem}")
    return values, problems


def _converted(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    fewest, most = INPUTS[layer.type]
    if not fewest <= len(bottoms) <= most:
        raise UnsupportedError(f"it reads {len(bottoms)} arrays, expected {fewest} to {most}")
    if any(value.shape == () for value in bottoms):
        raise UnsupportedError("it reads finished detections")
    try:
        tops = CONVERTERS[layer.type](graph, layer, bottoms)
    except mx.base.MXNetError as error:
        raise UnsupportedError(f"MXNet refuses it ({str(error).splitlines()[0][:200]})") from error
    if len(tops) != len(layer.tops):
        raise UnsupportedError(f"it writes {len(layer.tops)} arrays, expected {len(tops)}")
    return tops


def _log_report(problems: Sequence[str]) -> None:
    if problems:
        more = f"; and {len(problems) - MAX_TOLD} more" if len(problems) > MAX_TOLD else ""
        raise UserError(f"layers that cannot be converted: {'; '.join(problems[:MAX_TOLD])}{more}")


def _compared(network: Network, values: dict[str, Value | None]) -> dict[str, Value]:
    """The arrays whose equality means that the networks are equal, by the name of the layer that writes them."""
    names = list(network.outputs)
    for layer in network.layers:
        if layer.type == "DetectionOutput":
            names += layer.bottoms[:3]
    writers = {top: layer.name for layer in network.layers for top in layer.tops}
    found = {writers[name]: values.get(name) for name in names if name in writers}
    return {name: value for name, value in found.items() if value is not None and value.shape != ()}


def _symbols(graph: Graph, outputs: dict[str, Value], network: Network) -> list[Any]:
    if graph.heads:
        return [graph.heads.cls_prob, graph.heads.boxes]
    symbols = [value.symbol for value in outputs.values() if value.symbol is not None]
    if not symbols:
        raise UserError(f"network {network.name!r} has no output that depends on the image")
    return symbols


def _row(layer: Layer, values: Sequence[Value | None], gone: dict[str, str]) -> Row:
    """values: what the layer writes."""
    known = [value for value in values if value is not None and value.shape]
    note = "constant" if any(value.constant is not None for value in known) else ""
    if layer.name in gone:
        known, note = [], f"folded into {gone[layer.name]}"
    written = ", ".join(format_shape(value.shape) for value in known)
    return Row(layer.name, layer.type, written, sum(array.size for array in layer.blobs), note)


NETWORK = "network"  # network-symbol.json and network-0000.params


def write_detector(folder: Path, spec: ModelSpec, graph: Any, arg_params: Params, aux_params: Params) -> Path:
    """What model= takes."""
    return write_bundle(folder, spec, graph, arg_params, aux_params)


def write_network(folder: Path, spec: ModelSpec, graph: Any, arg_params: Params, aux_params: Params) -> Path:
    """Writes the graph, which says what `spec` says, and its parameters, without any others; returns their file."""
    needed = {*graph.list_arguments(), *graph.list_auxiliary_states()}
    with atomic_dir(folder) as draft:
        attach_spec(graph, spec).save(str(draft / f"{NETWORK}-symbol.json"))
        arrays = {f"arg:{name}": array for name, array in arg_params.items() if name in needed}
        arrays |= {f"aux:{name}": array for name, array in aux_params.items() if name in needed}
        mx.nd.save(str(draft / f"{NETWORK}-0000.params"), arrays)
    return folder / f"{NETWORK}-0000.params"
