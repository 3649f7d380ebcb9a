"""Layers that work on each number: activations, arithmetic, and normalization."""

from functools import reduce
from typing import Any

import numpy as np

from ssd.importers.caffe.graph import (
    Graph,
    Shape,
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


@converts("Dropout", "Split", inputs=(1, 1))
def identity(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    return bottoms * len(layer.tops)


@converts("Silence", inputs=(1, 1000))
def silence(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    return []


@converts("ReLU", "ReLU6", "Sigmoid", "TanH", "ELU", "AbsVal", "Power")
def activation(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    data, name = symbol_of(bottoms[0]), graph.name(layer.name)
    options = layer.options
    if layer.type == "ReLU" and options.relu_param.negative_slope:
        symbol = mx.sym.LeakyReLU(data, act_type="leaky", slope=options.relu_param.negative_slope, name=name)
    elif layer.type == "ReLU6":
        symbol = mx.sym.clip(data, a_min=0.0, a_max=6.0, name=name)
    elif layer.type == "ELU":
        symbol = mx.sym.LeakyReLU(data, act_type="elu", slope=options.elu_param.alpha, name=name)
    elif layer.type == "AbsVal":
        symbol = mx.sym.abs(data, name=name)
    elif layer.type == "Power":
        power = options.power_param
        symbol = data * power.scale + power.shift
        symbol = symbol if power.power == 1 else symbol**power.power
    else:
        symbol = mx.sym.Activation(data, act_type=layer.type.lower(), name=name)
    return [graph.value(symbol, bottoms[0].shape)]


@converts("PReLU")
def prelu(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    shape, name = bottoms[0].shape, graph.name(layer.name)
    count = 1 if layer.options.prelu_param.channel_shared else shape[axis_of(1, shape)]
    gamma = graph.parameter(f"{name}_gamma", blob(layer, 0, (count,), "slope"))
    return [graph.value(mx.sym.LeakyReLU(symbol_of(bottoms[0]), gamma, act_type="prelu", name=name), shape)]


@converts("Eltwise", inputs=(2, 1000))
def eltwise(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    options = layer.options.eltwise_param
    symbols = [symbol_of(value) for value in bottoms]
    if len({value.shape for value in bottoms}) > 1:
        raise UnsupportedError(f"it joins arrays {' and '.join(format_shape(value.shape) for value in bottoms)}")
    if options.coeff and options.operation == options.SUM:
        if len(options.coeff) != len(bottoms):
            raise UnsupportedError(f"{len(options.coeff)} coefficients for {len(bottoms)} inputs")
        symbols = [symbol if k == 1 else symbol * k for symbol, k in zip(symbols, options.coeff, strict=True)]
    operators = {
        options.SUM: mx.sym.elemwise_add, options.PROD: mx.sym.elemwise_mul, options.MAX: mx.sym.maximum
    }  # fmt: skip
    return [graph.value(reduce(operators[options.operation], symbols), bottoms[0].shape)]


@converts("BatchNorm")
def batch_norm(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Blobs: mean, variance, what both are divided by; and after folding factor and offset (fold.py)."""
    options, shape = layer.options.batch_norm_param, bottoms[0].shape
    if options.HasField("use_global_stats") and not options.use_global_stats:
        raise UnsupportedError("it normalizes by the statistics of the batch (use_global_stats: false)")
    channels = shape[axis_of(1, shape)]
    mean, variance = statistics(layer, channels)
    name = graph.name(layer.name)
    folded = len(layer.blobs) > 3
    gamma = blob(layer, 3, (channels,), "factor") if folded else np.ones(channels)
    beta = blob(layer, 4, (channels,), "offset") if folded else np.zeros(channels)
    graph.aux_params |= {f"{name}_moving_mean": mean, f"{name}_moving_var": variance}
    tensors = [graph.parameter(f"{name}_gamma", gamma), graph.parameter(f"{name}_beta", beta)]
    symbol = mx.sym.BatchNorm(
        symbol_of(bottoms[0]), *tensors, fix_gamma=False, use_global_stats=True, eps=options.eps, name=name
    )
    return [graph.value(symbol, shape)]


def statistics(layer: Layer, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance [C] of a BatchNorm layer, which keeps sums and their weight. Errors: UnsupportedError."""
    mean, variance, weight = (
        blob(layer, number, (count,), what)
        for number, (count, what) in enumerate([(channels, "mean"), (channels, "variance"), (1, "weight of its mean")])
    )
    factor = np.float32(0 if weight[0] == 0 else 1 / weight[0])
    return mean * factor, variance * factor


@converts("Scale", "Bias", inputs=(1, 2))
def scale(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """A factor, an offset or both, from the caffemodel or from a second array."""
    is_scale = layer.type == "Scale"
    options = layer.options.scale_param if is_scale else layer.options.bias_param
    shape, name = bottoms[0].shape, graph.name(layer.name)
    axis = axis_of(options.axis, shape)
    symbol = symbol_of(bottoms[0])
    operators = [mx.sym.broadcast_mul] if is_scale else [mx.sym.broadcast_add]
    if len(bottoms) == 2:
        other = _aligned(bottoms[1], shape, axis)
        symbol = operators.pop()(symbol, other)
    count = options.num_axes if options.num_axes >= 0 else len(shape) - axis
    inner = bottoms[1].shape if len(bottoms) == 2 else shape[axis : axis + count]
    if is_scale and options.bias_term:
        operators.append(mx.sym.broadcast_add)
    if operators and axis == 0 and inner:
        raise UnsupportedError("it has numbers for each image of a batch")
    broadcast = (*[1] * axis, *inner, *[1] * (len(shape) - axis - len(inner)))
    for number, operator in enumerate(operators):
        what = "factor" if operator is mx.sym.broadcast_mul else "offset"
        suffix = "gamma" if operator is mx.sym.broadcast_mul else "beta"
        array = blob(layer, number, inner, what).reshape(broadcast)
        symbol = operator(symbol, graph.parameter(f"{name}_{suffix}", array), name=graph.name(f"{name}_{what}"))
    return [graph.value(symbol, shape)]


def _aligned(other: Value, shape: Shape, axis: int) -> Any:
    """A second array shaped to go with the first, whose axes it matches from `axis` on."""
    if axis != 0 or other.shape != shape[: len(other.shape)]:
        raise UnsupportedError(f"an array {format_shape(other.shape)} for axis {axis} of {format_shape(shape)}")
    return mx.sym.Reshape(symbol_of(other), shape=(0, *other.shape[1:], *[1] * (len(shape) - len(other.shape))))


@converts("LRN")
def local_response(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    options = layer.options.lrn_param
    data, name = symbol_of(bottoms[0]), graph.name(layer.name)
    images(bottoms[0])
    size = option(options.local_size, 1, "local_size")
    if size % 2 == 0:
        raise UnsupportedError(f"local_size {size} is even")
    if options.norm_region == options.ACROSS_CHANNELS:
        symbol = mx.sym.LRN(data, nsize=size, alpha=options.alpha, beta=options.beta, knorm=options.k, name=name)
        return [graph.value(symbol, bottoms[0].shape)]
    pad = (size - 1) // 2
    mean = mx.sym.Pooling(
        mx.sym.square(data), pool_type="avg", kernel=(size, size), pad=(pad, pad), count_include_pad=True
    )
    symbol = mx.sym.elemwise_div(data, (mean * options.alpha + 1) ** options.beta, name=name)
    return [graph.value(symbol, bottoms[0].shape)]


@converts("Normalize")
def normalize(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Unit length over the channels of a cell, or over the whole image, times a factor."""
    options = layer.options.norm_param
    _, channels, _, _ = images(bottoms[0])
    name = graph.name(layer.name)
    factors = blob(layer, 0, (1 if options.channel_shared else channels,), "scale")
    mode = "instance" if options.across_spatial else "channel"
    unit = mx.sym.L2Normalization(symbol_of(bottoms[0]), mode=mode, eps=options.eps, name=name)
    factor = graph.parameter(f"{name}_scale", factors.reshape(1, -1, 1, 1))
    return [graph.value(mx.sym.broadcast_mul(unit, factor, name=graph.name(f"{name}_scaled")), bottoms[0].shape)]
