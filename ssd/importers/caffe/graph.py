"""What the converters of layers work with: arrays with their shapes, a graph that grows, and who converts what.

Shapes are worked out here as Caffe defines them, before anything is allocated, with a batch of one; the graph takes
batches of any size, because operators copy the first dimension from their input. Arrays that do not depend on the
image (anchors) are numbers.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ssd.importers.caffe.layers import Layer
from ssd.mxnet_compat import mx

MAX_VALUES = 1 << 27  # numbers in one array: half a gigabyte
MAX_TOTAL = 1 << 29  # in all arrays of a network
MAX_OPTION = 10_000  # of kernels, strides, paddings and the like
MAX_DIMENSIONS = 8

Shape = tuple[int, ...]


class UnsupportedError(Exception):
    """A layer that cannot be converted; the message says why, without the layer's name."""


@dataclass(frozen=True)
class Value:
    """shape: with a batch of one. Either a symbol or, for what is the same for all images, a constant."""

    shape: Shape
    symbol: Any = None
    constant: np.ndarray | None = None


@dataclass(frozen=True)
class Heads:
    """What a DetectionOutput layer is given, as this package defines it, see ssd.ops.boxes.

    cls_prob: symbol [B, C + 1, N], background first. boxes: symbol [B, N, 4], corners, normalized, not clipped.
    labels: Caffe's number of each class. detection: its threshold, overlap and counts. priors: anchors [1, 2, N * 4].
    sources: the layers that give probabilities and offsets.
    """

    cls_prob: Any
    boxes: Any
    labels: list[int]
    detection: dict[str, Any]
    priors: np.ndarray
    sources: tuple[str, str]


class Graph:
    """Symbols and their parameters, under names that occur once."""

    def __init__(self, input_name: str, input_shape: Shape, swap: bool) -> None:
        """swap: whether convolutions that read the input must have their BGR weights turned to RGB."""
        self.input_name = input_name
        self.input_shape = input_shape
        self.swap = swap
        self.arg_params: dict[str, np.ndarray] = {}
        self.aux_params: dict[str, np.ndarray] = {}
        self.heads: Heads | None = None
        self._names = {"data", "cls_prob", "boxes"}
        self._total = 0

    def name(self, wanted: str) -> str:
        """`wanted` as the name of a node, or something like it that is free."""
        plain = re.sub(r"[^A-Za-z0-9_.]", "_", wanted) or "layer"
        fresh, number = plain, 1
        while fresh in self._names:
            number += 1
            fresh = f"{plain}_{number}"
        self._names.add(fresh)
        return fresh

    def parameter(self, name: str, array: np.ndarray, own: bool = True) -> Any:
        """A variable that holds `array`. own: the name is free as it is, because it follows from a node's."""
        name = name if own and name not in self._names else self.name(name)
        self._names.add(name)
        self.arg_params[name] = np.ascontiguousarray(array, np.float32)
        return mx.sym.Variable(name, shape=array.shape)

    def value(self, symbol: Any, shape: Sequence[int]) -> Value:
        """A result. Errors: UnsupportedError when it is empty or too large."""
        return Value(self.checked(shape), symbol)

    def constant(self, array: np.ndarray) -> Value:
        return Value(self.checked(array.shape), constant=array)

    def checked(self, shape: Sequence[int]) -> Shape:
        """The shape, if such an array may exist beside the others; asked before it is made.

        Errors: UnsupportedError.
        """
        count = prod(shape)
        if count < 1 or min(shape, default=1) < 1:
            raise UnsupportedError(f"its result is empty: {format_shape(shape)}")
        if len(shape) > MAX_DIMENSIONS:
            raise UnsupportedError(f"its result has {len(shape)} dimensions")
        self._total += count
        if count > MAX_VALUES or self._total > MAX_TOTAL:
            raise UnsupportedError(f"its result of {format_shape(shape)} numbers is too large")
        return tuple(int(side) for side in shape)


Converter = Callable[[Graph, Layer, list[Value]], list[Value]]
CONVERTERS: dict[str, Converter] = {}
INPUTS: dict[str, tuple[int, int]] = {}


def converts(*types: str, inputs: tuple[int, int] = (1, 1)) -> Callable[[Converter], Converter]:
    """Registers a converter. inputs: fewest and most arrays that such a layer reads."""

    def register(function: Converter) -> Converter:
        for kind in types:
            CONVERTERS[kind] = function
            INPUTS[kind] = inputs
        return function

    return register


def symbol_of(value: Value) -> Any:
    """Errors: UnsupportedError for a constant."""
    if value.symbol is None:
        raise UnsupportedError("it reads anchors")
    return value.symbol


def axis_of(axis: int, shape: Shape) -> int:
    """An axis counted from the end as one counted from the start. Errors: UnsupportedError when there is none such."""
    if not -len(shape) <= axis < len(shape):
        raise UnsupportedError(f"axis {axis} of an array {format_shape(shape)}")
    return axis % len(shape)


def option(value: int, least: int, what: str) -> int:
    """Errors: UnsupportedError when the number cannot be meant."""
    if not least <= value <= MAX_OPTION:
        raise UnsupportedError(f"{what} {value}: expected {least} to {MAX_OPTION}")
    return int(value)


def images(value: Value) -> Shape:
    """Shape [1, C, H, W]. Errors: UnsupportedError for anything else."""
    if len(value.shape) != 4:
        raise UnsupportedError(f"it reads an array {format_shape(value.shape)}, expected images")
    return value.shape


def blob(layer: Layer, number: int, shape: Shape, what: str) -> np.ndarray:
    """An array of the caffemodel in the shape that the layer needs. Errors: UnsupportedError when absent or misfit."""
    if number >= len(layer.blobs):
        raise UnsupportedError(f"the caffemodel has no {what} for it")
    array = layer.blobs[number]
    if array.size != prod(shape):
        raise UnsupportedError(
            f"its {what} in the caffemodel is {format_shape(array.shape)}, expected {format_shape(shape)}"
        )
    return array.reshape(shape)


def format_shape(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in shape) or "single"
