"""Weights of one network put into another one of the same layers: both graphs are walked in order, names do not matter.

What is compared is what decides outputs: kinds and shapes of the layers, windows of convolutions, poolings and
activations between them. Differences that numbers can make up for are worked into the numbers: the epsilon of a batch
normalization (y = gamma (x - mean) / sqrt(variance + epsilon) + beta), a scale that one of the two keeps at 1, a
normalization of the input that one of the two has, dense layers that are convolutions here. All others are refused.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ssd.utils.errors import UserError

CONV, NORM, DENSE = "Convolution", "BatchNorm", "FullyConnected"
PARTS = {CONV: ("weight", "bias"), DENSE: ("weight", "bias"), NORM: ("gamma", "beta", "moving_mean", "moving_var")}
AUXILIARY = ("moving_mean", "moving_var")
EPSILON = "0.001"  # MXNet's, of a BatchNorm that names none
ONES = 1e-6  # how far scales may be from 1 that count as such
MAX_OFF = 0.5  # standard deviations of ImageNet that means of the same input may differ by
VARIABLE = "null"
POOL, WINDOW = "Pooling", ("kernel", "stride", "pad", "dilate", "num_group")


@dataclass(frozen=True)
class Normalization:
    """(x - mean) / std of RGB levels 0..255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # after which its images have 0 and 1
LEVELS = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Layer:
    """A layer with weights. arrays: by part, see PARTS. epsilon, fixed: of a normalization; fixed: its scale stays 1.

    window: kernel, stride, pad, dilation and groups of a convolution, None where no graph says so. before: poolings and
    activations between the layer before it and this one, in order; None where no graph says so.
    """

    kind: str
    name: str
    arrays: Mapping[str, np.ndarray]
    epsilon: float = 0.0
    fixed: bool = False
    window: tuple[Any, ...] | None = None
    before: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Place:
    """A layer that gets weights. names: of its parameters, by part. shapes: of these. The rest is as of Layer."""

    kind: str
    name: str
    names: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    epsilon: float
    fixed: bool
    window: tuple[Any, ...] | None
    before: tuple[str, ...]


@dataclass
class Mapped:
    """Parameters under their names here, as float32."""

    args: dict[str, np.ndarray] = field(default_factory=dict)
    aux: dict[str, np.ndarray] = field(default_factory=dict)

    def put(self, place: Place, part: str, values: np.ndarray) -> None:
        if part not in place.names:
            return
        (self.aux if part in AUXILIARY else self.args)[place.names[part]] = np.ascontiguousarray(values, np.float32)


def layers_of(symbol: Any, arrays: Mapping[str, np.ndarray]) -> list[Layer]:
    """The layers of a graph in its order. arrays: its parameters by name. Errors: UserError for one that is missing."""
    found = []
    for node, names, before in _walk(symbol):
        if missing := [name for name in names.values() if name not in arrays]:
            raise UserError(f"the file has no {missing[0]}, which the network it is for needs")
        values = {part: np.asarray(arrays[name], np.float32) for part, name in names.items()}
        found.append(Layer(node["op"], node["name"], values, *_normal(node), _window(node), before))
    return found


def places_of(symbol: Any, side: int = 256) -> list[Place]:
    """The same of the network that gets the weights. side: pixels of an input that shapes are inferred for."""
    shapes, _, aux_shapes = symbol.infer_shape(data=(1, 3, side, side))
    known = dict(zip(symbol.list_arguments(), shapes, strict=True))
    known |= dict(zip(symbol.list_auxiliary_states(), aux_shapes, strict=True))
    return [
        Place(node["op"], node["name"], names, {part: tuple(known[name]) for part, name in names.items()},
              *_normal(node), _window(node), before)
        for node, names, before in _walk(symbol)
    ]  # fmt: skip


def _walk(symbol: Any) -> Iterator[tuple[dict[str, Any], dict[str, str], tuple[str, ...]]]:
    """Every layer with weights: its node, the names of its parameters by part, and what lies before it."""
    nodes = json.loads(symbol.tojson())["nodes"]
    between: list[str] = []
    for node in nodes:
        if node["op"] in PARTS:
            inputs = [nodes[source]["name"] for source, *_ in node["inputs"][1:]]
            yield node, dict(zip(PARTS[node["op"]], inputs, strict=False)), tuple(between)
            between = []
        elif (step := _step(node)) is not None:
            between.append(step)


def _attributes(node: Mapping[str, Any]) -> Mapping[str, str]:
    return node.get("attrs") or node.get("attr") or node.get("param") or {}


def _normal(node: Mapping[str, Any]) -> tuple[float, bool]:
    """Epsilon, and whether the scale stays 1."""
    attributes = _attributes(node)
    if node["op"] != NORM:
        return 0.0, False
    return float(attributes.get("eps", EPSILON)), attributes.get("fix_gamma", "True") in ("True", "1", "true")


def _window(node: Mapping[str, Any]) -> tuple[Any, ...] | None:
    if node["op"] != CONV:
        return None
    attributes = _attributes(node)
    kernel = _numbers(attributes.get("kernel", "()"))
    usual = {"stride": (1,) * len(kernel), "pad": (0,) * len(kernel), "dilate": (1,) * len(kernel), "num_group": (1,)}
    return tuple(_numbers(attributes.get(key, "")) or usual.get(key, kernel) for key in WINDOW)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.strip("()[] ").split(",") if part.strip())


def _step(node: Mapping[str, Any]) -> str | None:
    """A pooling or an activation as text that is the same for equal ones; None for other operators. How a pooling
    rounds is a matter of the input size."""
    attributes = _attributes(node)
    if node["op"] == "Activation":
        return attributes.get("act_type", "")
    if node["op"] in ("LeakyReLU", "clip"):
        return (
            f"{node['op']} {attributes.get('act_type', '')}{attributes.get('a_min', '')} {attributes.get('a_max', '')}"
        )
    if node["op"] != POOL:
        return None
    kind = attributes.get("pool_type", "max")
    if attributes.get("global_pool", "False") in ("True", "1"):
        return f"global {kind} pooling"
    kernel = _numbers(attributes.get("kernel", ""))
    stride = _numbers(attributes.get("stride", "")) or (1,) * len(kernel)
    pad = _numbers(attributes.get("pad", "")) or (0,) * len(kernel)
    inside = "" if attributes.get("count_include_pad", "True") in ("True", "1", "None") or kind == "max" else " inside"
    return f"{kind} pooling {'x'.join(map(str, kernel))} stride {stride[0]} pad {pad[0]}{inside}"


def put(layers: Sequence[Layer], places: Sequence[Place], partial: bool = False) -> Mapped:
    """The weights of `layers` in `places`, one by one; the layers may go on behind the last place.

    partial: they may end before it. Errors: UserError naming the first layer that does not fit, and why.
    """
    mapped, found = Mapped(), list(places)
    if _normalizes_input(places) and not (layers and layers[0].kind == NORM):
        _leave_input(mapped, found.pop(0))
    if len(layers) < len(found) and not partial:
        raise UserError(f"has {len(layers)} layers with weights, this backbone {len(found)}")
    for number, (layer, place) in enumerate(zip(layers, found, strict=False)):
        where = f"layer {number + 1}, {layer.name} there and {place.name} here"
        _check_between(layer, place, where)
        if layer.kind == DENSE and place.kind == CONV:
            _put_dense(mapped, layer, place, where)
        elif layer.kind != place.kind:
            raise UserError(f"{where}: {layer.kind} there, {place.kind} here")
        elif layer.kind == NORM:
            _put_norm(mapped, layer, place, where)
        else:
            _put_conv(mapped, layer, place, where)
    return mapped


def adapt_input(mapped: Mapped, places: Sequence[Place], theirs: Normalization | None, ours: Normalization) -> bool:
    """Where a network normalizes its input itself, makes its statistics, in place, those of images that are normalized
    as `ours` has it, so that it gives what it gave for `theirs`; returns whether it did.

    theirs: None where nobody has published it: then its statistics show whether it was trained on plain levels.
    Errors: UserError where they do not show it.
    """
    if not _normalizes_input(places) or places[0].names["moving_mean"] not in mapped.aux:
        return False
    place = places[0]
    mean, variance = (mapped.aux[place.names[part]].astype(np.float64) for part in AUXILIARY)
    if theirs is None:
        theirs = next((one for one in (ours, LEVELS) if _looks_like(mean, one)), None)
        if theirs is None:
            raise UserError(f"the mean {_text(mean)} of its input is neither that of levels 0..255 nor of "
                            f"backbone.input.mean={_text(ours.mean)}")  # fmt: skip
    if theirs == ours:
        return False
    factor = np.array(ours.std) / np.array(theirs.std)
    offset = (np.array(ours.mean) - np.array(theirs.mean)) / np.array(theirs.std)
    variance = (variance + place.epsilon) / factor**2 - place.epsilon
    if variance.min() < 0:
        raise UserError(f"its input has a variance of {_text(variance)} with backbone.input.std={_text(ours.std)}")
    mapped.put(place, "moving_mean", (mean - offset) / factor)
    mapped.put(place, "moving_var", variance)
    return True


def _looks_like(mean: np.ndarray, one: Normalization) -> bool:
    """Whether images of ImageNet that are normalized so have about this mean."""
    expected = (np.array(IMAGENET.mean) - np.array(one.mean)) / np.array(one.std)
    return bool((np.abs(mean - expected) < MAX_OFF * np.array(IMAGENET.std) / np.array(one.std)).all())


def _text(values: Any) -> str:
    return f"[{','.join(f'{float(value):.4g}' for value in values)}]"


def _normalizes_input(places: Sequence[Place]) -> bool:
    return bool(places) and places[0].kind == NORM


def _leave_input(mapped: Mapped, place: Place) -> None:
    """A normalization of the input that the other network does not have does nothing."""
    (count,) = place.shapes["gamma"]
    values = {"gamma": np.ones(count), "beta": np.zeros(count), "moving_mean": np.zeros(count)}
    for part, array in {**values, "moving_var": np.full(count, 1 - place.epsilon)}.items():
        mapped.put(place, part, array)


def _check_between(layer: Layer, place: Place, where: str) -> None:
    """Errors: UserError for other poolings, activations or windows. In front of dense layers that became convolutions
    the pooling is another one, as published."""
    if layer.before is None or layer.kind == DENSE:
        return
    if layer.before != place.before:
        raise UserError(f"{where}: {_listed(layer.before)} before it there, {_listed(place.before)} here")
    if layer.window is not None and place.window is not None and layer.window != place.window:
        differing = [(key, a, b) for key, a, b in zip(WINDOW, layer.window, place.window, strict=True) if a != b]
        key, there, here = differing[0]
        raise UserError(f"{where}: {key} {there} there, {here} here")


def _listed(steps: Sequence[str]) -> str:
    return ", ".join(steps) or "nothing"


def _put_conv(mapped: Mapped, layer: Layer, place: Place, where: str) -> None:
    weight, bias = layer.arrays["weight"], layer.arrays.get("bias")
    _check_shape(weight, place, "weight", where)
    mapped.put(place, "weight", weight)
    if "bias" in place.names:
        bias = np.zeros(place.shapes["bias"]) if bias is None else bias
        _check_shape(bias, place, "bias", where)
        mapped.put(place, "bias", bias)
    elif bias is not None and np.any(bias):
        raise UserError(f"{where}: it has a bias there, none here")


def _put_dense(mapped: Mapped, layer: Layer, place: Place, where: str) -> None:
    """Every n-th filter, channel, row and column of a dense layer over a map, so many that the convolution is full: the
    subsampling that made VGG's fc6 and fc7 convolutions (Liu et al. 2016, section 3)."""
    weight, bias = layer.arrays["weight"], layer.arrays["bias"]
    filters, channels, *kernel = place.shapes["weight"]
    cells = _side(weight.shape[1], channels, kernel)
    if cells is None or weight.shape[0] % filters:
        raise UserError(f"{where}: a dense layer of shape {weight.shape} there, {place.shapes['weight']} here")
    depth, side = cells
    steps = [
        weight.shape[0] // filters,
        depth // channels,
        *((side - 1) // max(1, one - 1) if one > 1 else 1 for one in kernel),
    ]
    cut = tuple(slice(None, None, step or 1) for step in steps)  # of one row: all of it
    thinned = weight.reshape(weight.shape[0], depth, side, side)[cut]
    _check_shape(thinned, place, "weight", where)
    mapped.put(place, "weight", thinned)
    mapped.put(place, "bias", bias[:: steps[0]])


def _side(inputs: int, channels: int, kernel: Sequence[int]) -> tuple[int, int] | None:
    """Channels and side of the square map that a dense layer of so many inputs is over; None where it is over none."""
    if kernel[0] == 1:
        return (inputs, 1) if inputs % channels == 0 else None
    side = math.isqrt(inputs // channels)
    return (channels, side) if channels * side * side == inputs and side >= kernel[0] else None


def _put_norm(mapped: Mapped, layer: Layer, place: Place, where: str) -> None:
    for part in PARTS[NORM]:
        _check_shape(layer.arrays[part], place, part, where)
    gamma, variance = layer.arrays["gamma"].astype(np.float64), layer.arrays["moving_var"].astype(np.float64)
    if layer.fixed:
        gamma = np.ones_like(gamma)
    if place.fixed:
        if np.abs(gamma - 1).max() > ONES:
            raise UserError(
                f"{where}: its scales are {_text([gamma.min(), gamma.max()])} there and stay 1 here (fix_gamma); set "
                "backbone.network.fix_gamma=false where the backbone has it"
            )
        variance = variance + layer.epsilon - place.epsilon
        if variance.min() < 0:
            raise UserError(
                f"{where}: epsilon {layer.epsilon:g} there, {place.epsilon:g} here, more than its variances"
            )
    else:
        gamma = gamma * np.sqrt((variance + place.epsilon) / (variance + layer.epsilon))
    values = {**layer.arrays, "gamma": gamma, "moving_var": variance}
    for part, array in values.items():
        mapped.put(place, part, array)


def _check_shape(array: np.ndarray, place: Place, part: str, where: str) -> None:
    if tuple(array.shape) != place.shapes[part]:
        raise UserError(f"{where}: {part} of shape {tuple(array.shape)} there, {place.shapes[part]} here")
