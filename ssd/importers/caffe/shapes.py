"""Layers that move numbers without changing them, and the softmax; of images' arrays and of anchors alike."""

from math import prod

import numpy as np

from ssd.importers.caffe.graph import Graph, Shape, UnsupportedError, Value, axis_of, converts, format_shape, symbol_of
from ssd.importers.caffe.layers import Layer
from ssd.mxnet_compat import mx

MIXES = "it mixes the images of a batch"


@converts("Permute")
def permute(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    value = bottoms[0]
    given = list(layer.options.permute_param.order)
    order = [*given, *(axis for axis in range(len(value.shape)) if axis not in given)]
    if sorted(order) != list(range(len(value.shape))):
        raise UnsupportedError(f"order {given} of an array {format_shape(value.shape)}")
    shape = [value.shape[axis] for axis in order]
    if value.constant is not None:
        return [graph.constant(value.constant.transpose(order))]
    if order[0] != 0:
        raise UnsupportedError(MIXES)
    return [graph.value(mx.sym.transpose(value.symbol, axes=order, name=graph.name(layer.name)), shape)]


@converts("Flatten")
def flatten(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    options, shape = layer.options.flatten_param, bottoms[0].shape
    first, last = axis_of(options.axis, shape), axis_of(options.end_axis, shape)
    if last < first:
        raise UnsupportedError(f"axes {first} to {last}")
    return [_reshaped(graph, layer, bottoms[0], (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :]))]


@converts("Reshape")
def reshape(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """0 copies a dimension, -1 is what is left; only `num_axes` dimensions from `axis` on are meant."""
    options, shape = layer.options.reshape_param, bottoms[0].shape
    dims = list(options.shape.dim)
    start = options.axis if options.axis >= 0 else len(shape) + options.axis + 1
    stop = len(shape) if options.num_axes == -1 else start + options.num_axes
    if not 0 <= start <= stop <= len(shape):
        raise UnsupportedError(f"axes {start} to {stop} of an array {format_shape(shape)}")
    if any(dim < -1 for dim in dims) or dims.count(-1) > 1 or len(dims) > 16:
        raise UnsupportedError(f"shape {dims[:20]}")
    if any(dim == 0 and start + number >= len(shape) for number, dim in enumerate(dims)):
        raise UnsupportedError(f"shape {dims} of an array {format_shape(shape)}")
    dims = [shape[start + number] if dim == 0 else dim for number, dim in enumerate(dims)]
    known = prod(dim for dim in dims if dim != -1) * prod(shape[:start]) * prod(shape[stop:])
    dims = [prod(shape) // known if dim == -1 else dim for dim in dims]
    return [_reshaped(graph, layer, bottoms[0], (*shape[:start], *dims, *shape[stop:]))]


def _reshaped(graph: Graph, layer: Layer, value: Value, shape: Shape) -> Value:
    if prod(shape) != prod(value.shape):
        raise UnsupportedError(f"an array {format_shape(value.shape)} cannot become {format_shape(shape)}")
    if value.constant is not None:
        return graph.constant(value.constant.reshape(graph.checked(shape)))
    if shape[0] != 1:
        raise UnsupportedError(MIXES)
    symbol = mx.sym.Reshape(value.symbol, shape=(0, *shape[1:]), name=graph.name(layer.name))
    return graph.value(symbol, shape)


@converts("Concat", inputs=(1, 1000))
def concat(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    options = layer.options.concat_param
    shapes = [value.shape for value in bottoms]
    wanted = options.concat_dim if options.HasField("concat_dim") else options.axis
    axis = axis_of(wanted, shapes[0])
    if any(len(shape) != len(shapes[0]) or _without(shape, axis) != _without(shapes[0], axis) for shape in shapes):
        raise UnsupportedError(f"arrays {', '.join(map(format_shape, shapes[:8]))} along axis {axis}")
    shape = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    constants = [value.constant for value in bottoms if value.constant is not None]
    if len(constants) == len(bottoms):
        graph.checked(shape)
        return [graph.constant(np.concatenate(constants, axis=axis))]
    if axis == 0:
        raise UnsupportedError(MIXES)
    symbols = [symbol_of(value) for value in bottoms]
    return [graph.value(mx.sym.Concat(*symbols, dim=axis, name=graph.name(layer.name)), shape)]


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


@converts("Slice")
def slices(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    options, value = layer.options.slice_param, bottoms[0]
    axis = axis_of(options.slice_dim if options.HasField("slice_dim") else options.axis, value.shape)
    count, side = len(layer.tops), value.shape[axis]
    points = list(options.slice_point)
    if not points and side % max(count, 1):
        raise UnsupportedError(f"{side} cannot be cut into {count} equal parts")
    edges = [0, *(points or [side // count * number for number in range(1, count)]), side]
    if len(edges) != count + 1 or sorted(set(edges)) != edges:
        raise UnsupportedError(f"slice_point {points[:20]} for {count} parts of {side}")
    return [_cut(graph, layer, value, axis, pair) for pair in zip(edges[:-1], edges[1:], strict=True)]


@converts("Crop", inputs=(2, 2))
def crop(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    options, (value, like) = layer.options.crop_param, bottoms
    axis = axis_of(options.axis, value.shape)
    if len(like.shape) != len(value.shape):
        raise UnsupportedError(f"an array {format_shape(value.shape)} to the size of {format_shape(like.shape)}")
    count = len(value.shape) - axis
    offsets = list(options.offset) or [0]
    offsets = offsets * count if len(offsets) == 1 else offsets
    if len(offsets) != count:
        raise UnsupportedError(f"{len(offsets)} offsets for {count} axes")
    for number, offset in enumerate(offsets, start=axis):
        if offset + like.shape[number] > value.shape[number]:
            raise UnsupportedError(
                f"offset {offset} of an array {format_shape(value.shape)} to the size of {format_shape(like.shape)}"
            )
        if like.shape[number] != value.shape[number]:
            value = _cut(graph, layer, value, number, (offset, offset + like.shape[number]))
    return [value]


def _cut(graph: Graph, layer: Layer, value: Value, axis: int, edges: tuple[int, int]) -> Value:
    if axis == 0 and value.constant is None:
        raise UnsupportedError(MIXES)
    low, high = edges
    if value.constant is not None:
        return graph.constant(value.constant.take(range(low, high), axis=axis))
    shape = (*value.shape[:axis], high - low, *value.shape[axis + 1 :])
    return graph.value(
        mx.sym.slice_axis(value.symbol, axis=axis, begin=low, end=high, name=graph.name(layer.name)), shape
    )


@converts("Softmax")
def softmax(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    shape = bottoms[0].shape
    axis = axis_of(layer.options.softmax_param.axis, shape)
    if axis == 0:
        raise UnsupportedError(MIXES)
    return [graph.value(mx.sym.softmax(symbol_of(bottoms[0]), axis=axis, name=graph.name(layer.name)), shape)]
