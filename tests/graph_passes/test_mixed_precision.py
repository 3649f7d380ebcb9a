"""The graph that computes in 16 bits: what is cast, and that everything outside of it stays as it was."""

import json

import numpy as np
import pytest

from ssd.config.compose import compose
from ssd.graph_passes.mixed_precision import lowered
from ssd.symbol import build_train


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "overrides",
    [["small"], ["small", "head=ssd_bn", "compat=mxnet_ssd"], ["vgg16_reduced"], ["densenet_tiny"], ["inceptionv3"],
     ["resnet50", "loss.classification=focal"]],
    ids=" ".join,
)  # fmt: skip
def test_outside_everything_is_float32(dtype: str, overrides: list[str]) -> None:
    cfg = compose([f"backbone={overrides[0]}", "data_shape=300", *overrides[1:]])
    symbol = build_train(cfg, 3)
    graph = lowered(symbol, dtype, (300, 300))
    assert graph.list_arguments() == symbol.list_arguments()
    assert graph.list_auxiliary_states() == symbol.list_auxiliary_states()
    shapes = {"data": (2, 3, 300, 300), "label": (2, 4, 6)}
    assert graph.infer_shape(**shapes) == symbol.infer_shape(**shapes)
    for types in graph.infer_type(data=np.float32, label=np.float32):
        assert {np.dtype(each) for each in types} <= {np.dtype(np.float32)}


def inputs(graph: dict, node: dict) -> list[dict]:
    return [graph["nodes"][place] for place, *_ in node["inputs"]]


def test_convolutions_and_what_follows_them_are_cast() -> None:
    symbol = build_train(compose(["backbone=vgg16_reduced", "data_shape=300"]), 3)
    graph = json.loads(lowered(symbol, "bfloat16", (300, 300)).tojson(remove_amp_cast=False))
    nodes = {node["name"]: node for node in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"])
    data, weight, bias = inputs(graph, nodes["conv1_1"])
    assert [each["attrs"]["dtype"] for each in (data, weight, bias)] == ["bfloat16"] * 3
    assert inputs(graph, weight)[0]["op"] == "_copy"  # casts do not add their gradients up
    assert inputs(graph, nodes["relu1_1"]) == [nodes["conv1_1"]]
    assert inputs(graph, nodes["conv1_2"])[0] == nodes["relu1_1"]
    assert inputs(graph, nodes["pool1"]) == [nodes["relu1_2"]]
    last = inputs(graph, nodes["cls_prob"])[0]
    assert last["op"] not in ("Convolution", "amp_cast")  # float32 long before the losses


def test_a_single_cell_stays_float32() -> None:
    """Its gradients would not be written; wider maps and convolutions of 1x1 are all right."""
    symbol = build_train(compose(["backbone=mobilenet_025", "data_shape=128"]), 3)
    internals = symbol.get_internals()
    sizes = internals.infer_shape(data=(1, 3, 128, 128), label=(1, 1, 6))[1]
    shapes = dict(zip(internals.list_outputs(), sizes, strict=True))
    graph = json.loads(lowered(symbol, "bfloat16", (128, 128)).tojson(remove_amp_cast=False))
    found = set()
    for node in graph["nodes"]:
        if node["op"] == "Convolution":
            low = inputs(graph, node)[1]["op"] == "amp_cast"
            single = node["attrs"]["kernel"] != "(1, 1)" and shapes[f"{node['name']}_output"][2] == 1
            assert low != single, node["name"]
            found.add(single)
    assert found == {True, False}
