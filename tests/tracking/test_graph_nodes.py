import pytest

from ssd.config.compose import compose
from ssd.symbol import build_train
from ssd.tracking.graph_nodes import graph_nodes

SHAPES = {"data": (2, 3, 300, 300), "label": (2, 5, 6)}


@pytest.mark.parametrize(
    "backbone", ["small", "vgg16_reduced", "resnet50", "mobilenet", "inceptionv3", "densenet_tiny"]
)
@pytest.mark.parametrize("compat", ["null", "mxnet_ssd"])
def test_every_node_once_with_its_shapes_and_inputs_before_it(backbone, compat):
    symbol = build_train(compose([f"backbone={backbone}", "data_shape=300", f"compat={compat}"]), 3)
    nodes = graph_nodes(symbol, SHAPES)
    names = [node.name for node in nodes]
    assert len(set(names)) == len(names)
    seen: dict[str, int] = {}
    for node in nodes:
        assert node.shapes, node
        assert all(side > 0 for shape in node.shapes for side in shape)
        for name in node.inputs:
            source, _, output = name.partition(":")
            assert int(output or 0) < seen[source] or node.operator == "BatchNorm"  # whose statistics are hidden
        seen[node.name] = len(node.shapes)
    operators = [node.operator for node in nodes]
    assert operators.count("Input") == 2
    assert operators.count("Parameter") == len(symbol.list_arguments()) + len(symbol.list_auxiliary_states()) - 2


def test_what_belongs_together_is_grouped():
    nodes = {
        node.name: node
        for node in graph_nodes(build_train(compose(["backbone=resnet50", "data_shape=300"]), 3), SHAPES)
    }
    conv = nodes["stage1/unit1/conv2"]
    assert (conv.operator, conv.shapes) == ("Convolution", [(2, 64, 75, 75)])
    assert conv.inputs == ["stage1/unit1/relu2", "stage1/unit1/conv2/weight"]
    assert conv.attributes["kernel"] == "(3, 3)"
    assert nodes["stage1/unit1/conv2/weight"].shapes == [(64, 64, 3, 3)]
    assert nodes["stage1/unit1/_plus0"].inputs == ["stage1/unit1/conv3", "stage1/unit1/sc"]
    assert nodes["multi_feat_2/conv_1x1/conv"].operator == "Convolution"
    assert nodes["head/multi_feat_2_conv_3x3_relu/cls_pred_conv/bias"].operator == "Parameter"
    assert len(nodes["loss/multibox_target"].shapes) == 3
    assert "loss/multibox_target:2" in nodes["loss/negatives_best"].inputs
    assert {"data", "label", "conv0", "bn0"} <= nodes.keys()
    assert all(not key.startswith("__") for node in nodes.values() for key in node.attributes)
