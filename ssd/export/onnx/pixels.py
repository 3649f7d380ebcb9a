"""The way of an image onto the network's input, and of boxes back to the image, inside an ONNX graph with standard
operators: what ssd.data.transforms.preprocess.preprocess and Detector.to_image_coords do on arrays, to the last bit.

Averages are OpenCV's INTER_AREA for whole factors. Interpolation is its INTER_LINEAR on bytes (modules/imgproc/src/
resize.cpp): weights in 2048ths; sums of two columns without their last 4 bits, of these times a weight without their
last 16, and the sum of two rows rounded from quarters.
"""

from typing import NamedTuple

import numpy as np
import onnx as onnx_format
from onnx import TensorProto, helper

from ssd.config.parts import InputSpec
from ssd.data.transforms.resize import FACTORS
from ssd.detection.onnx_file import FOUND, IMAGE, LEVELS, PLACED
from ssd.export.onnx.builder import Builder

WEIGHT = 2048


class _Sizes(NamedTuple):
    """int64 [2], (height, width) each. image: as given; averaged: after averages, of which factor [1] x factor pixels
    make one; target: what it covers of the input."""

    image: str
    averaged: str
    factor: str
    target: str


class _Taps(NamedTuple):
    """For every row or column of the input the two that it lies between, int64 [M], and their weights, float32 [M]."""

    first: str
    second: str
    weights: tuple[str, str]


def with_pixels(model: onnx_format.ModelProto, spec: InputSpec) -> onnx_format.ModelProto:
    """A model of `images` and `detection` in shares of the input as one of `image` and `detection` in its pixels.

    The former input, and the detection as it was, stay inside under names that `part.between` finds.
    """
    whole = onnx_format.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    for node in graph.node:
        node.output[:] = [PLACED if name == FOUND else name for name in node.output]
    onnx = Builder()
    sizes = _sizes(onnx, spec)
    _levels(onnx, sizes, spec)
    before = len(onnx.nodes)
    _in_pixels(onnx, sizes, spec)
    network = list(graph.node)
    del graph.node[:]
    graph.node.extend([*onnx.nodes[:before], *network, *onnx.nodes[before:]])
    graph.initializer.extend(onnx.constants)
    inner = next(value for value in graph.input if value.name == LEVELS)
    placed = onnx_format.ValueInfoProto()
    placed.CopyFrom(next(value for value in graph.output if value.name == FOUND))
    placed.name = PLACED
    graph.value_info.extend([inner, placed])
    del graph.input[:]
    image = helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ("batch", "height", "width", 3))
    graph.input.append(image)
    return whole


def _sizes(onnx: Builder, spec: InputSpec) -> _Sizes:
    bounds = onnx.numbers([1], "pixels_first_side"), onnx.numbers([3], "pixels_last_side")
    image = onnx.add("Slice", [onnx.add("Shape", [IMAGE], "pixels_shape"), *bounds], "pixels_size")
    target = _target(onnx, image, spec)
    if not spec.antialias:
        return _Sizes(image, image, onnx.numbers([1], "pixels_factor"), target)
    # 1, and 1, 2, 4 more where both sides are at least 2, 4, 8 times as long as what they cover.
    factors = sorted(FACTORS)
    steps = np.diff([1, *factors])
    wanted = onnx.add(
        "Mul", [target, onnx.constant(np.array(factors).reshape(-1, 1), "pixels_factors")], "pixels_wanted"
    )
    enough = onnx.add("Cast", [onnx.add("GreaterOrEqual", [image, wanted], "pixels_enough")], "pixels_is_enough", to=7)
    both = onnx.add("ReduceMin", [enough], "pixels_both", axes=[1], keepdims=0)
    more = onnx.add("Mul", [both, onnx.constant(steps, "pixels_steps")], "pixels_more")
    factor = onnx.add(
        "Add", [onnx.add("ReduceSum", [more], "pixels_sum"), onnx.numbers([1], "pixels_one")], "pixels_factor"
    )
    return _Sizes(image, onnx.add("Div", [image, factor], "pixels_averaged_size"), factor, target)


def _target(onnx: Builder, image: str, spec: InputSpec) -> str:
    """See ssd.data.transforms.resize.letterbox_region."""
    sides = onnx.numbers([spec.height, spec.width], "pixels_input")
    if spec.resize_mode == "force":
        return sides
    shown, whole = _double(onnx, image), _double(onnx, sides)
    scale = onnx.add("ReduceMin", [onnx.add("Div", [whole, shown], "pixels_scales")], "pixels_scale", keepdims=1)
    rounded = onnx.add("Round", [onnx.add("Mul", [scale, shown], "pixels_scaled")], "pixels_rounded")
    least = onnx.add("Max", [_whole(onnx, rounded), onnx.numbers([1], "pixels_least")], "pixels_at_least")
    return onnx.add("Min", [least, sides], "pixels_target")


def _levels(onnx: Builder, sizes: _Sizes, spec: InputSpec) -> None:
    """`images`, float32 of whole levels 0..255."""
    data = _averaged(onnx, sizes) if spec.antialias else IMAGE
    rows, columns = (
        _taps(onnx, sizes, axis, length, clamped=axis == 1) for axis, length in enumerate((spec.height, spec.width))
    )
    both = onnx.add("Concat", [rows.first, rows.second], "pixels_rows", axis=0)
    data = onnx.add("Gather", [data, both], "pixels_of_rows", axis=1)
    parts = [
        onnx.add("Mul", [_float(onnx, onnx.add("Gather", [data, place], "pixels_of_columns", axis=2)),
                         _by_channel(onnx, weight)], "pixels_weighted")
        for place, weight in zip((columns.first, columns.second), columns.weights, strict=True)
    ]  # fmt: skip
    sums = _floor(onnx, onnx.add("Add", parts, "pixels_between_columns"), 16)
    halves = onnx.add_many("Split", [sums], "pixels_half", 2, axis=1)
    parts = [
        # 27 bits, more than a float32 holds
        _floor(onnx, onnx.add("Mul", [_double(onnx, half), _double(onnx, _column(onnx, _column(onnx, weight)))],
                              "pixels_weighted"), 65536, np.float64)
        for half, weight in zip(halves, rows.weights, strict=True)
    ]  # fmt: skip
    quarters = onnx.add(
        "Add",
        [_float(onnx, onnx.add("Add", parts, "pixels_between_rows")), onnx.scalar(2, "pixels_half_up")],
        "pixels_quarters",
    )
    levels = _floor(onnx, quarters, 4)
    if spec.resize_mode != "force":
        levels = _bordered(onnx, levels, sizes.target, spec)
    onnx.nodes.append(helper.make_node("Transpose", [levels], [LEVELS], name=f"{LEVELS}/Transpose", perm=[0, 3, 1, 2]))


def _averaged(onnx: Builder, sizes: _Sizes) -> str:
    """Means of factor x factor pixels, float32 of whole levels; halves are rounded up at factor 2, else to even."""
    zeros, axes = onnx.numbers([0, 0], "pixels_start"), onnx.numbers([1, 2], "pixels_axes")
    end = onnx.add("Mul", [sizes.averaged, sizes.factor], "pixels_end")
    data = onnx.add("Slice", [IMAGE, zeros, end, axes], "pixels_cut")
    rest, channels = onnx.numbers([-1], "pixels_rest"), onnx.numbers([3], "pixels_channels")
    axis = onnx.numbers([1], "pixels_summed")
    row = onnx.add("Mul", [onnx.add("Gather", [end, axis], "pixels_columns", axis=0), channels], "pixels_row")
    rows = onnx.add("Concat", [rest, sizes.factor, row], "pixels_of_means_shape", axis=0)
    data = onnx.add("Reshape", [data, rows], "pixels_of_means")
    data = onnx.add("ReduceSum", [_float(onnx, data), axis], "pixels_sums", keepdims=0)
    # A product with as many identity matrices below each other: for ReduceSum three channels are too few to be fast.
    times = onnx.add("Concat", [sizes.factor, onnx.numbers([1], "pixels_once")], "pixels_times", axis=0)
    same = onnx.add("Tile", [onnx.constant(np.eye(3, dtype=np.float32), "pixels_same"), times], "pixels_identities")
    wide = onnx.add("Mul", [sizes.factor, channels], "pixels_wide")
    shape = onnx.add("Concat", [rest, wide], "pixels_of_mean_shape", axis=0)
    data = onnx.add("MatMul", [onnx.add("Reshape", [data, shape], "pixels_of_mean"), same], "pixels_sum_of_rows")
    shape = onnx.add("Concat", [rest, sizes.averaged, channels], "pixels_averaged_shape", axis=0)
    data = onnx.add("Reshape", [data, shape], "pixels_sums_shaped")
    count = _float(onnx, onnx.add("Mul", [sizes.factor, sizes.factor], "pixels_count"))
    two = onnx.add("Equal", [sizes.factor, onnx.numbers([2], "pixels_two")], "pixels_is_two")
    upwards = onnx.add(
        "Where", [two, onnx.scalar(0.125, "pixels_upwards"), onnx.scalar(0, "pixels_to_even")], "pixels_shift"
    )
    means = onnx.add("Add", [onnx.add("Div", [data, count], "pixels_means"), upwards], "pixels_shifted")
    return onnx.add("Round", [means], "pixels_averaged")


def _taps(onnx: Builder, sizes: _Sizes, axis: int, length: int, clamped: bool) -> _Taps:
    """clamped: outside of the outermost centers the nearest one has all the weight, as OpenCV gives it along x; along y
    the two weights are those of one row."""
    place = onnx.numbers([axis], "pixels_axis")
    source, target = (
        onnx.add("Gather", [size, place], "pixels_side", axis=0) for size in (sizes.averaged, sizes.target)
    )
    ratio = onnx.add("Div", [_double(onnx, target), _double(onnx, source)], "pixels_ratio")
    step = onnx.add("Div", [onnx.constant(np.ones(1), "pixels_one"), ratio], "pixels_step")
    centers = onnx.constant(np.arange(length) + 0.5, "pixels_centers")
    at = onnx.add("Mul", [centers, step], "pixels_scaled_centers")
    at = _float(onnx, onnx.add("Sub", [at, onnx.constant(np.array(0.5), "pixels_half_pixel")], "pixels_at"))
    low = onnx.add("Floor", [at], "pixels_low")
    share = onnx.add("Sub", [at, low], "pixels_share")
    low = _whole(onnx, low)
    last = onnx.add("Sub", [source, onnx.numbers([1], "pixels_one")], "pixels_last")
    zero = onnx.numbers([0], "pixels_zero")
    if clamped:
        before, behind = (
            onnx.add("Less", [low, zero], "pixels_before"),
            onnx.add("GreaterOrEqual", [low, last], "pixels_behind"),
        )
        outside = onnx.add("Or", [before, behind], "pixels_outside")
        share = onnx.add("Where", [outside, onnx.scalar(0, "pixels_none"), share], "pixels_share_inside")
    following = onnx.add("Add", [low, onnx.numbers([1], "pixels_one")], "pixels_next")
    first, second = (
        onnx.add("Min", [onnx.add("Max", [index, zero], "pixels_from"), last], "pixels_tap")
        for index in (low, following)
    )
    rest = onnx.add("Sub", [onnx.scalar(1, "pixels_all"), share], "pixels_rest_share")
    weights = [
        onnx.add(
            "Round",
            [onnx.add("Mul", [part, onnx.scalar(WEIGHT, "pixels_unit")], "pixels_exact_weight")],
            "pixels_weight",
        )
        for part in (rest, share)
    ]
    return _Taps(first, second, (weights[0], weights[1]))


def _bordered(onnx: Builder, levels: str, target: str, spec: InputSpec) -> str:
    """Beside the target, which lies in the upper left corner, the color of the border."""
    inside = []
    for axis, shape in enumerate(((spec.height, 1, 1), (1, spec.width, 1))):
        places = onnx.constant(np.arange(max(shape)).reshape(shape), "pixels_places")
        side = onnx.add("Gather", [target, onnx.numbers([axis], "pixels_axis")], "pixels_covered", axis=0)
        inside.append(onnx.add("Less", [places, side], "pixels_inside"))
    border = onnx.constant(np.array(spec.border, np.float32), "pixels_border")
    return onnx.add("Where", [onnx.add("And", inside, "pixels_covers"), levels, border], "pixels_bordered")


def _in_pixels(onnx: Builder, sizes: _Sizes, spec: InputSpec) -> None:
    """`detection` out of what the network found, see ResizeTransform.to_image and
    Detector.to_image_coords."""
    split = onnx.numbers([1, 1, 4], "placed_columns")
    label, score, corners = onnx.add_many("Split", [PLACED, split], "placed_part", 3, axis=2)
    sides = onnx.constant(np.array([spec.height, spec.width], np.float64), "placed_input")
    shown = onnx.add("Mul", [sizes.averaged, sizes.factor], "placed_shown")
    scale = onnx.add("Div", [_double(onnx, sizes.target), _double(onnx, shown)], "placed_scale")
    there = onnx.numbers([1, 0, 1, 0], "placed_x_first")
    factors, lengths, ends = (onnx.add("Gather", [values, there], "placed_by_corner", axis=0)
                              for values in (scale, sides, _double(onnx, sizes.image)))  # fmt: skip
    corners = onnx.add("Mul", [_double(onnx, corners), lengths], "placed_on_input")
    corners = onnx.add("Div", [corners, factors], "placed_on_image")
    zero = onnx.constant(np.zeros(1), "placed_zero")
    corners = onnx.add("Min", [onnx.add("Max", [corners, zero], "placed_from_zero"), ends], "placed_inside")
    corners = _float(onnx, corners)
    nothing = onnx.scalar(-1, "placed_nothing")
    kept = onnx.add("GreaterOrEqual", [label, onnx.scalar(0, "placed_first_class")], "placed_is_found")
    if spec.resize_mode != "force":
        low, high = onnx.add_many("Split", [corners], "placed_corner", 2, axis=2)
        wide = onnx.add(
            "Cast", [onnx.add("Greater", [high, low], "placed_wide")], "placed_is_wide", to=TensorProto.FLOAT
        )
        both = onnx.add("ReduceMin", [wide], "placed_both", axes=[2], keepdims=1)
        seen = onnx.add("Greater", [both, onnx.scalar(0, "placed_no")], "placed_seen")
        kept = onnx.add("And", [kept, seen], "placed_kept")
    rows = onnx.add("Concat", [label, score, corners], "placed_rows", axis=2)
    rows = onnx.add("Where", [kept, rows, nothing], "placed_valid")
    if spec.resize_mode != "force":
        rows = _sorted(onnx, rows)
    onnx.nodes.append(helper.make_node("Identity", [rows], [FOUND], name=f"{FOUND}/Identity"))


def _sorted(onnx: Builder, rows: str) -> str:
    """Rows [B, K, 6] best score first, which puts those that were emptied behind."""
    score = onnx.add("Gather", [rows, onnx.numbers([1], "placed_score")], "placed_scores", axis=2)
    count = onnx.add("Shape", [score], "placed_count", start=1, end=2)
    _, order = onnx.add_many("TopK", [score, count], "placed_order", 2, axis=1)
    return onnx.add("GatherND", [rows, order], "placed_sorted", batch_dims=1)


def _floor(onnx: Builder, data: str, divisor: int, kind: type[np.floating] = np.float32) -> str:
    """Of data / divisor, a power of two: nothing is rounded."""
    factor = onnx.constant(np.array(1 / divisor, kind), "pixels_shifted_by")
    return onnx.add("Floor", [onnx.add("Mul", [data, factor], "pixels_divided")], "pixels_floor")


def _by_channel(onnx: Builder, values: str) -> str:
    """[M] -> [M, 3], so that the last axis is no single number, which is slow."""
    return onnx.add("Tile", [_column(onnx, values), onnx.numbers([1, 3], "pixels_repeats")], f"{values}_by_channel")


def _column(onnx: Builder, values: str) -> str:
    return onnx.add("Unsqueeze", [values, onnx.numbers([-1], "pixels_new_axis")], f"{values}_column")


def _float(onnx: Builder, data: str) -> str:
    return onnx.add("Cast", [data], f"{data}_float", to=TensorProto.FLOAT)


def _double(onnx: Builder, data: str) -> str:
    return onnx.add("Cast", [data], f"{data}_double", to=TensorProto.DOUBLE)


def _whole(onnx: Builder, data: str) -> str:
    return onnx.add("Cast", [data], f"{data}_whole", to=TensorProto.INT64)
