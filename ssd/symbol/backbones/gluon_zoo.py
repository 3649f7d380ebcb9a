"""The networks of MXNet's gluon model zoo (mxnet.gluon.model_zoo.vision) as backbones, traced into a symbol.

Names are gluon's without the prefix of the network: a layer `stage3_conv2` has the parameters `stage3_conv2_weight`
and so on, the statistics of a batch normalization are `<layer>_moving_mean` and `_moving_var`. The maps that a detector
uses are called by their stride, `stride8`, `stride16`, `stride32`, so that one head fits all of these networks.
"""

import json
from functools import lru_cache
from typing import Any

from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError, did_you_mean

PREFIX = "zoo_"
NETWORKS = (
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(f"mobilenet{width}" for width in ("0.25", "0.5", "0.75", "1.0")),
    *(f"mobilenetv2_{width}" for width in ("0.25", "0.5", "0.75", "1.0")),
    *(f"resnet{depth}_v{version}" for depth in (18, 34, 50, 101, 152) for version in (1, 2)),
    *(f"squeezenet{version}" for version in ("1.0", "1.1")),
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
)
# Attributes that gluon gives a variable: factors that would override the configured learning rate and weight decay, and
# shapes that depend on the input.
OWN_ATTRIBUTES = ("__lr_mult__", "__wd_mult__", "__shape__", "__dtype__", "__storage_type__")
INITIALIZERS = {"zeros": '["zero", {}]', "ones": '["one", {}]'}  # as Module reads them
PROBES = 1024, 2048  # sides of an input, in pixels
VARIABLE, CONCAT, ACTIVATIONS = "null", ("Concat", "concat"), ("Activation", "clip")


def build(data: mx.sym.Symbol, model: str) -> mx.sym.Symbol:
    """The features of a network of the zoo, up to the coarsest map `stride<n>`.

    model: its name there, such as resnet18_v1. Errors: UserError for one that is not there.
    """
    text, taps = _traced(model)
    output = mx.sym.load_json(text).get_internals()[f"{tap_name(max(taps))}_output"]
    return output(data=data)


def taps(model: str) -> dict[int, str]:
    """Stride -> gluon's name of the layer behind `stride<n>`: the last activation of that resolution which all of the
    network passes through.

    That is the end of a stage of ResNet v1; the first normalization and ReLU of the next one in ResNet v2 and DenseNet;
    the expansion of the next block in MobileNet v2; the last concatenation before a pooling in SqueezeNet.
    """
    return dict(_traced(model)[1])


def tap_name(stride: int) -> str:
    return f"stride{stride}"


@lru_cache(maxsize=4)
def _traced(model: str) -> tuple[str, dict[int, str]]:
    """The symbol as JSON with the names of this module, and `taps`."""
    if model not in NETWORKS:
        hint = did_you_mean(model, NETWORKS) or ", ".join(NETWORKS)
        raise UserError(f"backbone.name={model}: expected a network of gluon's model zoo that suits a detector; {hint}")
    with mx.name.NameManager():
        network = mx.gluon.model_zoo.vision.get_model(model, prefix=PREFIX)
        symbol = network.features(mx.sym.Variable("data"))
    graph = json.loads(symbol.tojson())
    nodes = graph["nodes"]
    for node in nodes:
        _rename(node)
    found = {stride: nodes[index]["name"] for stride, index in _find_taps(nodes, _strides(symbol, nodes)).items()}
    for stride, name in found.items():
        next(node for node in nodes if node["name"] == name)["name"] = tap_name(stride)
    return json.dumps(graph), found


def _rename(node: dict[str, Any]) -> None:
    """Gives a node of the JSON, in place, a name after MXNet's own convention, and a variable its attributes."""
    node["name"] = _plain_name(node["name"]).replace("_running_", "_moving_")
    if node["op"] == VARIABLE and "attrs" in node:
        kept = {key: value for key, value in node["attrs"].items() if key not in OWN_ATTRIBUTES}
        node["attrs"] = {key: INITIALIZERS.get(value, value) for key, value in kept.items()}


def _plain_name(name: str) -> str:
    return name.removeprefix(PREFIX).removesuffix("_fwd")


def _strides(symbol: mx.sym.Symbol, nodes: list[dict[str, Any]]) -> list[int]:
    """Of each node, pixels of the input per cell of its output; 0 where it is not a map."""
    internals = symbol.get_internals()
    near, far = (_output_shapes(internals, side) for side in PROBES)
    strides = []
    for node in nodes:
        first, second = near.get(node["name"], ()), far.get(node["name"], ())
        grown = second[2] - first[2] if len(first) == 4 else 0
        strides.append(round((PROBES[1] - PROBES[0]) / grown) if grown else 0)
    return strides


def _output_shapes(internals: mx.sym.Symbol, side: int) -> dict[str, tuple[int, ...]]:
    """By the names that `_rename` gives."""
    _, shapes, _ = internals.infer_shape(data=(1, 3, side, side))
    names = (name.removesuffix("_output") for name in internals.list_outputs())
    return {_plain_name(name): shape for name, shape in zip(names, shapes, strict=True)}


def _find_taps(nodes: list[dict[str, Any]], strides: list[int]) -> dict[int, int]:
    """Stride -> index of the last node of that stride which is an activation, or joins activations, and which no edge
    bypasses."""
    reaches = [0] * len(nodes)  # the last node that takes it
    activated = [False] * len(nodes)
    for index, node in enumerate(nodes):
        sources = [source for source, *_ in node["inputs"] if nodes[source]["op"] != VARIABLE or source == 0]
        for source in sources:
            reaches[source] = index
        joined = node["op"] in CONCAT and all(activated[source] for source in sources)
        activated[index] = node["op"] in ACTIVATIONS or joined
    found, furthest = {}, 0
    for index, stride in enumerate(strides):
        if activated[index] and stride and furthest <= index:
            found[stride] = index
        furthest = max(furthest, reaches[index])
    return found
