"""Operators on arrays in ONNX: shapes, slices, arithmetic."""

from collections.abc import Callable

import numpy as np

from ssd.export.onnx.builder import Builder, Layer

Translator = Callable[[Layer, Builder], "str | list[str]"]


def simple(op: str) -> Translator:
    """An operator without attributes, as ONNX has it."""

    def translate(layer: Layer, onnx: Builder) -> str:
        return onnx.add(op, layer.inputs, layer.name)

    return translate


def with_scalar(op: str, reverse: bool = False) -> Translator:
    """An operator on an array and a number; reverse: the number comes first."""

    def translate(layer: Layer, onnx: Builder) -> str:
        number = onnx.scalar(float(layer.value("scalar", 0)), f"{layer.name}_scalar")
        inputs = [number, layer.inputs[0]] if reverse else [layer.inputs[0], number]
        return onnx.add(op, inputs, layer.name)

    return translate


def reduction(op: str) -> Translator:
    def translate(layer: Layer, onnx: Builder) -> str:
        axes = layer.value("axis", None)
        if axes in (None, ()) or layer.flag("exclude", False):
            raise layer.unsupported("reduction over all axes", "over those that axis= names")
        axes = [axes] if isinstance(axes, int) else list(axes)
        keep = int(layer.flag("keepdims", False))
        if op == "ReduceSum":  # the one that takes its axes as an input
            return onnx.add(op, [layer.inputs[0], onnx.numbers(axes, f"{layer.name}_axes")], layer.name, keepdims=keep)
        return onnx.add(op, layer.inputs, layer.name, axes=axes, keepdims=keep)

    return translate


def identity(layer: Layer, onnx: Builder) -> str:
    """What counts in training only, such as Dropout."""
    return onnx.add("Identity", layer.inputs[:1], layer.name)


def concat(layer: Layer, onnx: Builder) -> str:
    return onnx.add("Concat", layer.inputs, layer.name, axis=layer.value("dim", layer.value("axis", 1)))


def flatten(layer: Layer, onnx: Builder) -> str:
    return onnx.add("Flatten", layer.inputs, layer.name, axis=1)


def transpose(layer: Layer, onnx: Builder) -> str:
    axes = layer.value("axes", ()) or tuple(reversed(range(len(layer.input_shapes[0]))))
    return onnx.add("Transpose", layer.inputs, layer.name, perm=axes)


def reshape(layer: Layer, onnx: Builder) -> str:
    """0 keeps an axis and -1 takes what is left in both; MXNet's other codes are replaced by the sizes they mean."""
    codes = list(layer.value("shape", ()))
    if layer.flag("reverse", False) or not codes:
        raise layer.unsupported("reverse or no shape", "shape=")
    if min(codes) < -1:
        if codes[0] not in (0, -2):
            raise layer.unsupported(f"shape={tuple(codes)}", "shapes that keep the first axis")
        codes = [0, *layer.output_shapes[0][1:]]
    return onnx.add("Reshape", [layer.inputs[0], onnx.numbers(codes, f"{layer.name}_shape")], layer.name)


def expand_dims(layer: Layer, onnx: Builder) -> str:
    axis = onnx.numbers([layer.value("axis", 0)], f"{layer.name}_axis")
    return onnx.add("Unsqueeze", [layer.inputs[0], axis], layer.name)


def squeeze(layer: Layer, onnx: Builder) -> str:
    axes = layer.value("axis", None)
    if axes is None:
        raise layer.unsupported("no axis", "axis=")
    axes = [axes] if isinstance(axes, int) else list(axes)
    return onnx.add("Squeeze", [layer.inputs[0], onnx.numbers(axes, f"{layer.name}_axes")], layer.name)


def slice_axis(layer: Layer, onnx: Builder) -> str:
    end = layer.value("end", None)
    return _cut(layer, onnx, [layer.value("axis", 0)], [layer.value("begin", 0)], [END if end is None else end])


def slice_(layer: Layer, onnx: Builder) -> str:
    if layer.value("step", ()) not in ((), None):
        raise layer.unsupported("step", "steps of one")
    begin = [value or 0 for value in layer.value("begin", ())]
    end = [END if value is None else value for value in layer.value("end", ())]
    return _cut(layer, onnx, list(range(len(begin))), begin, end)


END = np.iinfo(np.int64).max


def _cut(layer: Layer, onnx: Builder, axes: list[int], begin: list[int], end: list[int]) -> str:
    numbers = zip(("begin", "end", "axes"), (begin, end, axes), strict=True)
    inputs = [onnx.numbers(values, f"{layer.name}_{name}") for name, values in numbers]
    return onnx.add("Slice", [layer.inputs[0], *inputs], layer.name)


def crop(layer: Layer, onnx: Builder) -> str:
    """A part of the first input as large as the second, or as h_w says: its center, or from an offset on."""
    sides, wanted = layer.input_shapes[0][2:], layer.output_shapes[0][2:]
    top, left = layer.pair("offset", 0)
    if layer.flag("center_crop", False):
        top, left = ((side - size) // 2 for side, size in zip(sides, wanted, strict=True))
    return _cut(layer, onnx, [2, 3], [top, left], [top + wanted[0], left + wanted[1]])


def split(layer: Layer, onnx: Builder) -> list[str]:
    axis, count = layer.value("axis", 1), layer.value("num_outputs", 1)
    parts = onnx.add_many("Split", layer.inputs, layer.name, count, axis=axis)
    if not layer.flag("squeeze_axis", False):
        return parts
    axes = onnx.numbers([axis], f"{layer.name}_axis")
    return [onnx.add("Squeeze", [part, axes], f"{part}_squeezed") for part in parts]


def clip(layer: Layer, onnx: Builder) -> str:
    low, high = (onnx.scalar(float(layer.value(key, 0)), f"{layer.name}_{key}") for key in ("a_min", "a_max"))
    return onnx.add("Clip", [layer.inputs[0], low, high], layer.name)


def square(layer: Layer, onnx: Builder) -> str:
    return onnx.add("Mul", [layer.inputs[0]] * 2, layer.name)


def add_n(layer: Layer, onnx: Builder) -> str:
    return onnx.add("Sum", layer.inputs, layer.name)


def cast(layer: Layer, onnx: Builder) -> str:
    if layer.text("dtype", "float32") != "float32":
        raise layer.unsupported(f"dtype={layer.text('dtype', '')}", "float32")
    return layer.inputs[0]
