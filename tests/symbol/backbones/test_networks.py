"""Every network at its published sizes: anchors, feature maps and numbers of parameters known from the originals."""

import json

import numpy as np
import pytest

from ssd.symbol import build_test, build_train, feature_maps
from ssd.utils.errors import UserError

# backbone, data shape, anchors, sides of the feature maps, parameters with 20 classes: the original's.
PUBLISHED = [
    ("vgg16_reduced", 300, 8732, (38, 19, 10, 5, 3, 1), 26285486),
    ("vgg16_reduced", 512, 24576, (64, 32, 16, 8, 4, 2, 2), 26959300),
    ("legacy_vgg16", 300, 8732, (38, 19, 10, 5, 3, 1), 26285486),
    ("legacy_vgg16", 512, 24564, (64, 32, 16, 8, 4, 2, 1), 27188676),
    ("inceptionv3", 300, 7134, (35, 17, 8, 4, 2, 1), 27604302),
    ("inceptionv3", 512, 5186, (30, 14, 7, 4, 2, 1), 29198798),
    ("resnet50", 300, 2268, (19, 10, 5, 3, 2, 1), 31140020),
    ("resnet50", 512, 6132, (32, 16, 8, 4, 2, 1), 31140020),
    ("resnet101", 512, 6132, (32, 16, 8, 4, 2, 1), 50132148),
    ("mobilenet", 300, 2280, (19, 10, 5, 3, 2, 1, 1), 9681860),
    ("mobilenet", 512, 6144, (32, 16, 8, 4, 2, 1, 1), 9681860),
    ("mobilenet", 608, 8766, (38, 19, 10, 5, 3, 2, 1), 9681860),
    ("densenet121", 300, 2006, (18, 9, 5, 3, 2, 1), 11556340),
    ("densenet121", 512, 6132, (32, 16, 8, 4, 2, 1), 11556340),
    ("densenet_tiny", 300, 8108, (37, 18, 9, 5, 3, 2), 3860116),
    ("densenet_tiny", 512, 24528, (64, 32, 16, 8, 4, 2), 3860116),
]
# What the default does otherwise, and our own networks.
OURS = [
    ("vgg16_reduced", 512, 24564, (64, 32, 16, 8, 4, 2, 1), 27188676),  # the last map is one cell
    ("resnet50", 512, 6132, (32, 16, 8, 4, 2, 1), 31140020 + 2 * 2048),  # bn1 before the head
    ("resnet101", 512, 6132, (32, 16, 8, 4, 2, 1), 50132148 + 2 * 2048),
    ("densenet121", 512, 6132, (32, 16, 8, 4, 2, 1), 11556340 + 2 * 1024),
    ("mobilenet_050", 300, 8728, (38, 19, 10, 5, 3), None),
    ("mobilenet_025", 512, 24564, (64, 32, 16, 8, 4, 2, 1), None),
    ("small", 128, 1600, (16, 8, 4), None),
    ("small", 300, 9064, (38, 19, 10), None),
    ("small", 512, 21824, (64, 32, 16, 8, 4), None),
]
CASES = [(*row, "mxnet_ssd") for row in PUBLISHED] + [(*row, None) for row in OURS]


def count_parameters(symbol, cfg) -> int:
    shapes, _, _ = symbol.infer_shape(data=(1, 3, cfg.data_shape.height, cfg.data_shape.width))
    return sum(int(np.prod(s)) for name, s in zip(symbol.list_arguments(), shapes, strict=True) if name != "data")


@pytest.mark.parametrize(("backbone", "shape", "anchors", "sides", "parameters", "compat"), CASES)
def test_golden_values(configure, backbone, shape, anchors, sides, parameters, compat):
    cfg = configure(backbone, shape, compat)
    maps = feature_maps(cfg)
    assert sum(layer.anchors for layer in maps) == anchors
    assert tuple(layer.height for layer in maps) == tuple(layer.width for layer in maps) == sides
    graph = build_test(cfg, 20)
    _, outputs, _ = graph.infer_shape(data=(2, 3, shape, shape))
    assert outputs == ([(2, anchors, 6)] if compat else [(2, 21, anchors), (2, anchors, 4)])
    if parameters is not None:
        assert count_parameters(graph, cfg) == parameters


def test_small_network_is_small(configure):
    cfg = configure("small", 128)
    assert 450_000 < count_parameters(build_test(cfg, 3), cfg) < 600_000


@pytest.mark.parametrize("compat", [None, "mxnet_ssd"])
@pytest.mark.parametrize("shape", [300, 512])
@pytest.mark.parametrize("backbone", sorted({row[0] for row in CASES}))
def test_train_graph_names_are_unique_and_the_same_twice(configure, backbone, shape, compat):
    cfg = configure(backbone, shape, compat)
    first, second = build_train(cfg, 20), build_train(cfg, 20)
    assert first.tojson() == second.tojson()
    names = [node["name"] for node in json.loads(first.tojson())["nodes"]]
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith(("convolution", "activation", "batchnorm", "concat"))]


def test_building_leaves_the_configuration_alone(configure):
    cfg = configure("vgg16_reduced", 300)
    before = cfg.copy()
    build_train(cfg, 20)
    assert cfg == before


@pytest.mark.parametrize(("backbone", "shape"), [("vgg16_reduced", 128), ("inceptionv3", 32), ("vgg16_reduced", 8)])
def test_vanishing_feature_map_is_told_in_one_line(configure, backbone, shape):
    with pytest.raises(UserError) as error:
        build_train(configure(backbone, f"[{shape},{shape}]"), 20)
    message = str(error.value)
    assert "\n" not in message
    assert f"backbone {backbone} at data shape {shape}x{shape}" in message
    assert "feature map" in message


def test_vanishing_error_names_the_least_size_that_works(configure):
    with pytest.raises(UserError, match="multi_feat_4_conv_3x3_relu; use a data shape of at least") as error:
        build_test(configure("vgg16_reduced", 128), 20)
    least = int(str(error.value).split("at least ")[1].split()[0])
    feature_maps(configure("vgg16_reduced", f"[{least},{least}]"))
    with pytest.raises(UserError):
        feature_maps(configure("vgg16_reduced", f"[{least - 1},{least}]"))
