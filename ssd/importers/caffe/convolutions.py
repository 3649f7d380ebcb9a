"""Layers with kernels: convolution, its transpose, pooling, and the dense layer.

Sizes follow Caffe: convolutions round down, pooling rounds up.
"""

from typing import Any, NamedTuple

import numpy as np

from ssd.importers.caffe.graph import (
    Graph,
    UnsupportedError,
    Value,
    axis_of,
    blob,
    converts,
    format_shape,
    images,
    option,
    symbol_of,
)
from ssd.importers.caffe.layers import Layer
from ssd.mxnet_compat import mx

Pair = tuple[int, int]


class Window(NamedTuple):
    """Each along y and x."""

    kernel: Pair
    stride: Pair
    pad: Pair
    dilate: Pair

    @property
    def reach(self) -> Pair:
        """Cells from the first to the last that a kernel sees."""
        y, x = ((self.kernel[axis] - 1) * self.dilate[axis] + 1 for axis in (0, 1))
        return y, x


@converts("Convolution", "ConvolutionDepthwise")
def convolution(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    data = bottoms[0]
    window, filters, groups, size = _geometry(layer, data)
    channels = size[0]
    weight = blob(layer, 0, (filters, channels // groups, *window.kernel), "weight")
    if graph.swap and layer.bottoms[0] == graph.input_name:
        weight = weight[:, ::-1]
    sides = [(size[axis + 1] + 2 * window.pad[axis] - window.reach[axis]) // window.stride[axis] + 1 for axis in (0, 1)]
    return [_convolved(graph, layer, data, (window, filters, groups), (mx.sym.Convolution, weight, sides))]


@converts("Deconvolution")
def deconvolution(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    data = bottoms[0]
    window, filters, groups, size = _geometry(layer, data)
    weight = blob(layer, 0, (size[0], filters // groups, *window.kernel), "weight")
    sides = [window.stride[axis] * (size[axis + 1] - 1) + window.reach[axis] - 2 * window.pad[axis] for axis in (0, 1)]
    return [_convolved(graph, layer, data, (window, filters, groups), (mx.sym.Deconvolution, weight, sides))]


def _convolved(
    graph: Graph, layer: Layer, data: Value, geometry: tuple[Window, int, int], made: tuple[Any, np.ndarray, list[int]]
) -> Value:
    (window, filters, groups), (operator, weight, sides) = geometry, made
    shape = (1, filters, *sides)
    if min(sides) < 1:
        raise UnsupportedError(f"its kernel is larger than its input {format_shape(data.shape)}")
    name = graph.name(layer.name)
    has_bias = layer.options.convolution_param.bias_term
    tensors = [symbol_of(data), graph.parameter(f"{name}_weight", weight)]
    if has_bias:
        tensors.append(graph.parameter(f"{name}_bias", blob(layer, 1, (filters,), "bias")))
    symbol = operator(
        *tensors, num_filter=filters, kernel=window.kernel, stride=window.stride, pad=window.pad, dilate=window.dilate,
        num_group=groups, no_bias=not has_bias, name=name,
    )  # fmt: skip
    return graph.value(symbol, shape)


def _geometry(layer: Layer, data: Value) -> tuple[Window, int, int, tuple[int, int, int]]:
    """Window, filters, groups, and (channels, height, width) of the input."""
    options = layer.options.convolution_param
    _, channels, height, width = images(data)
    if axis_of(options.axis, data.shape) != 1:
        raise UnsupportedError(f"axis {options.axis}")
    filters = option(options.num_output, 1, "num_output")
    groups = option(options.group, 1, "group")
    if layer.type == "ConvolutionDepthwise":
        groups = channels
    if channels % groups or filters % groups:
        raise UnsupportedError(f"group {groups} does not divide {channels} channels and {filters} filters")
    window = Window(
        _pair(options, "kernel_size", "kernel", 1, None),
        _pair(options, "stride", "stride", 1, 1),
        _pair(options, "pad", "pad", 0, 0),
        _pair(options, "dilation", None, 1, 1),
    )
    return window, filters, groups, (channels, height, width)


def _pair(options: Any, both: str, single: str | None, least: int, default: int | None) -> Pair:
    """A size along y and x, written as <single>_h and <single>_w, or once or twice under the name `both`."""
    given = getattr(options, both)
    values = [given] if isinstance(given, int) else list(given)
    if single and (options.HasField(f"{single}_h") or options.HasField(f"{single}_w")):
        values = [getattr(options, f"{single}_h"), getattr(options, f"{single}_w")]
    if not values and default is not None:
        values = [default]
    if len(values) not in (1, 2):
        raise UnsupportedError(f"{both} is given {len(values)} times")
    y, x = (option(value, least, both) for value in (values[0], values[-1]))
    return y, x


@converts("Pooling")
def pooling(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    options = layer.options.pooling_param
    data = bottoms[0]
    _, channels, *size = images(data)
    kinds = {options.MAX: "max", options.AVE: "avg"}
    if options.pool not in kinds:
        raise UnsupportedError("stochastic pooling")
    kind, name = kinds[options.pool], graph.name(layer.name)
    if options.global_pooling:
        symbol = mx.sym.Pooling(symbol_of(data), pool_type=kind, kernel=(1, 1), global_pool=True, name=name)
        return [graph.value(symbol, (1, channels, 1, 1))]
    kernel = _pair(options, "kernel_size", "kernel", 1, None)
    stride = _pair(options, "stride", "stride", 1, 1)
    pad = _pair(options, "pad", "pad", 0, 0)
    if any(pad[axis] >= kernel[axis] for axis in (0, 1)):
        raise UnsupportedError(f"pad {pad[0]}, {pad[1]} is not smaller than its kernel")
    floor = options.round_mode == options.FLOOR or not options.ceil_mode
    spans = [size[axis] + 2 * pad[axis] - kernel[axis] for axis in (0, 1)]
    if min(spans) < 0:
        raise UnsupportedError(f"its kernel is larger than its input {format_shape(data.shape)}")
    down = [spans[axis] // stride[axis] + 1 for axis in (0, 1)]
    up = [-(-spans[axis] // stride[axis]) + 1 for axis in (0, 1)]
    sides = down if floor else [_clipped(up[axis], size[axis], stride[axis], pad[axis]) for axis in (0, 1)]
    if any((sides[axis] - 1) * stride[axis] - pad[axis] >= size[axis] for axis in (0, 1)):
        raise UnsupportedError("its last window lies outside of the image")
    symbol = mx.sym.Pooling(
        symbol_of(data), pool_type=kind, kernel=kernel, stride=stride, pad=pad, count_include_pad=True,
        pooling_convention="valid" if sides == down else "full", name=name,
    )  # fmt: skip
    for axis in (0, 1):
        if sides != down and sides[axis] < up[axis]:  # MXNet rounds up along both or along none
            symbol = mx.sym.slice_axis(symbol, axis=axis + 2, begin=0, end=sides[axis], name=graph.name(f"{name}_cut"))
    return [graph.value(symbol, (1, channels, *sides))]


def _clipped(count: int, size: int, stride: int, pad: int) -> int:
    """Caffe leaves out a last window that would begin in the padding."""
    return count - 1 if pad and (count - 1) * stride >= size + pad else count


@converts("InnerProduct")
def inner_product(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    options = layer.options.inner_product_param
    data = bottoms[0]
    axis = axis_of(options.axis, data.shape)
    last = axis == len(data.shape) - 1
    if axis != 1 and not (last and axis > 1):
        raise UnsupportedError(f"axis {axis} of an array {format_shape(data.shape)}")
    outputs = int(options.num_output)
    inputs = int(np.prod(data.shape[axis:], dtype=object))
    if options.transpose:
        weight = blob(layer, 0, (inputs, outputs), "weight").T
    else:
        weight = blob(layer, 0, (outputs, inputs), "weight")
    name = graph.name(layer.name)
    tensors = [symbol_of(data), graph.parameter(f"{name}_weight", weight)]
    if options.bias_term:
        tensors.append(graph.parameter(f"{name}_bias", blob(layer, 1, (outputs,), "bias")))
    symbol = mx.sym.FullyConnected(
        *tensors, num_hidden=outputs, no_bias=not options.bias_term, flatten=axis == 1, name=name
    )
    return [graph.value(symbol, (*data.shape[:axis], outputs))]
