"""A network description as a list of layers in one form, whatever form the file has.

Old files (V1) say `layers { type: CONVOLUTION }`, newer ones `layer { type: "Convolution" }`; the input is a layer or
stands at the top; layers may work in place. Here every array has one producer: what a layer writes over another array
gets a name of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssd.importers.caffe.schema import MESSAGES
from ssd.importers.caffe.text import parse, read_prototxt
from ssd.importers.caffe.wire import Weights
from ssd.utils.errors import UserError, first_few

MAX_LAYERS = 5000
TEST = 1

# Old names; the others are in V1_TYPES' own way of writing, see _old_type.
V1_TYPES = {"RELU": "ReLU", "LRN": "LRN", "TANH": "TanH", "INNER_PRODUCT": "InnerProduct", "ABSVAL": "AbsVal"}
ALIASES = {"DepthwiseConvolution": "ConvolutionDepthwise", "NormalizeBBox": "Normalize"}
TRAINING_ONLY = ("Data", "AnnotatedData", "ImageData", "HDF5Data", "MemoryData", "SoftmaxWithLoss", "MultiBoxLoss")


@dataclass(frozen=True)
class Layer:
    """options: the LayerParameter message. bottoms, tops: names of arrays, each produced once in the network."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    options: Any
    blobs: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Network:
    """input_shape: [batch, channels, height, width] as the file says. input: name of its array."""

    name: str
    input: str
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]

    @property
    def outputs(self) -> list[str]:
        """Arrays that no layer reads, in order."""
        read = {name for layer in self.layers for name in layer.bottoms}
        return [name for layer in self.layers for name in layer.tops if name not in read]


def read_network(path: Path, supported: Sequence[str]) -> Network:
    """The layers of a prototxt that run in the test phase.

    Errors: UserError when it cannot be read; one that lists all layers that are not supported; when it has no input, or
    several; when layers read what nothing has written.
    """
    text = read_prototxt(path)
    message = parse(text, "NetParameter", path, unknown=True)
    if len(message.layer) + len(message.layers) > MAX_LAYERS:
        raise UserError(f"{path}: more than {MAX_LAYERS} layers")
    if message.layer and message.layers:
        raise UserError(f"{path}: has layers of the old form and of the new one")
    if not message.layer and not message.layers:
        raise UserError(f"{path}: no network description, it holds no layers")
    _check_types(_test_layers(message), supported, path)
    message = parse(text, "NetParameter", path, unknown=False)
    inputs, layers = _split_inputs(message, _test_layers(message))
    if len(inputs) != 1:
        raise UserError(
            f"{path}: expected one input with its shape (the deploy file, not the one for training), "
            f"found {len(inputs) or 'none'}"
        )
    ((name, shape),) = inputs.items()
    return Network(message.name, name, shape, tuple(_single_producer(name, layers, path)))


def with_weights(network: Network, weights: Weights) -> Network:
    """The network with the arrays of a caffemodel, which knows layers by name."""
    layers = [
        Layer(x.name, x.type, x.bottoms, x.tops, x.options, tuple(weights.get(x.name, ()))) for x in network.layers
    ]
    return Network(network.name, network.input, network.input_shape, tuple(layers))


def _check_types(layers: Sequence[Layer], supported: Sequence[str], path: Path) -> None:
    wrong: dict[str, list[str]] = {}
    for layer in layers:
        if layer.type not in (*supported, "Input"):
            wrong.setdefault(layer.type or "no type", []).append(layer.name)
    if wrong:
        listed = "; ".join(f"{kind} ({first_few(names, 3)})" for kind, names in wrong.items())
        hint = " This is the file for training: use the deploy one." if set(wrong) & set(TRAINING_ONLY) else ""
        raise UserError(f"{path}: layers that are not supported: {listed}.{hint}")


def _test_layers(message: Any) -> list[Layer]:
    """Layers of the test phase; arrays still under their names in the file."""
    layers = [_upgraded(old) for old in message.layers] or list(message.layer)
    found = []
    for layer in layers:
        if _runs_in_test(layer):
            kind = ALIASES.get(layer.type, layer.type)
            found.append(Layer(layer.name, kind, tuple(layer.bottom), tuple(layer.top), layer))
    return found


def _runs_in_test(layer: Any) -> bool:
    if layer.HasField("phase") and layer.phase != TEST:
        return False
    rules = [rule for rule in layer.include if rule.HasField("phase")]
    if rules and all(rule.phase != TEST for rule in rules):
        return False
    return not any(rule.HasField("phase") and rule.phase == TEST for rule in layer.exclude)


def _upgraded(old: Any) -> Any:
    """A V1 layer as one of the new form: the same options under the same names."""
    new = MESSAGES["LayerParameter"](name=old.name, type=_old_type(old), bottom=old.bottom, top=old.top)
    for field, value in old.ListFields():
        if field.name.endswith("_param"):
            getattr(new, field.name).CopyFrom(value)
    for ours, theirs in ((new.include, old.include), (new.exclude, old.exclude)):
        ours.extend(theirs)
    return new


def _old_type(old: Any) -> str:
    """CONVOLUTION -> Convolution, SOFTMAX_LOSS -> SoftmaxLoss."""
    word = old.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[old.type].name
    return V1_TYPES.get(word) or "".join(part.capitalize() for part in word.split("_"))


def _split_inputs(message: Any, layers: list[Layer]) -> tuple[dict[str, tuple[int, ...]], list[Layer]]:
    """Inputs with their shapes, and the other layers."""
    shapes = [tuple(shape.dim) for shape in message.input_shape]
    dims = tuple(message.input_dim)
    shapes += [dims[start : start + 4] for start in range(0, len(dims), 4)]
    inputs = dict(zip(message.input, shapes, strict=False))
    for layer in layers:
        if layer.type == "Input":
            shapes = [tuple(shape.dim) for shape in layer.options.input_param.shape]
            inputs |= dict(zip(layer.tops, shapes * len(layer.tops) if len(shapes) == 1 else shapes, strict=False))
    return inputs, [layer for layer in layers if layer.type != "Input"]


def _single_producer(start: str, layers: Sequence[Layer], path: Path) -> list[Layer]:
    current = {start: start}  # name in the file -> name of what it holds now
    used = {start: 1}  # how often a name was given
    found = []
    for layer in layers:
        if stray := [name for name in layer.bottoms if name not in current]:
            raise UserError(f"{path}: layer {layer.name!r} reads {stray[0]!r}, which no layer before it writes")
        bottoms = tuple(current[name] for name in layer.bottoms)
        tops = []
        for name in layer.tops:
            fresh = name
            while fresh in used:
                used[name] += 1
                fresh = f"{name}#{used[name]}"
            used[fresh] = 1
            current[name] = fresh
            tops.append(fresh)
        found.append(Layer(layer.name, layer.type, bottoms, tuple(tops), layer.options))
    return found
