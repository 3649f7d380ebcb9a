import json
from ast import literal_eval

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.config.parts import network_config
from ssd.mxnet_compat import mx
from ssd.symbol import build_test, build_train, feature_maps
from ssd.symbol.graphs import attach_detection
from ssd.symbol.head import head_layers
from ssd.symbol.multibox import MultiBox, decode_boxes


def test_order_of_anchors_in_a_cell(configure, anchors_of):
    """Center first left, then right; every size with the first ratio, then the first size with the others."""
    cfg = configure("small", 128)
    anchors = anchors_of(build_test(cfg, 3), cfg)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert np.allclose(centers[:5], 0.5 / 16)
    assert np.allclose(centers[5:10], [1.5 / 16, 0.5 / 16])
    width, height = (anchors[:5, 2:] - anchors[:5, :2]).T
    root = 2**0.5
    assert np.allclose(width, [0.15, 0.2, 0.27, 0.15 * root, 0.15 / root])
    assert np.allclose(height, [0.15, 0.2, 0.27, 0.15 / root, 0.15 * root])


@pytest.mark.parametrize(
    ("backbone", "shape"), [("small", "[128,256]"), ("vgg16_reduced", "[300,512]"), ("mobilenet_025", "[160,96]")]
)
def test_anchors_have_their_shape_in_pixels_whatever_the_image(configure, anchors_of, backbone, shape):
    cfg = configure(backbone, shape)
    height, width = cfg.data_shape.height, cfg.data_shape.width
    anchors = anchors_of(build_test(cfg, 3), cfg) * [width, height, width, height]
    maps, layers = feature_maps(cfg), head_layers(network_config(cfg))
    assert len(anchors) == sum(layer.anchors for layer in maps)
    parts = np.split(anchors, np.cumsum([layer.anchors for layer in maps])[:-1])
    for part, layer in zip(parts, layers, strict=True):
        size = (part[:, 2:] - part[:, :2]).reshape(-1, layer.anchors_per_cell, 2)
        sides = [*layer.sizes, *[layer.sizes[0]] * (len(layer.ratios) - 1)]
        ratios = [1] * len(layer.sizes) + list(layer.ratios[1:])
        wanted = height * np.stack([sides * np.sqrt(ratios), sides / np.sqrt(ratios)], axis=1)
        np.testing.assert_allclose(size, np.broadcast_to(wanted, size.shape), rtol=1e-3)
        assert (part[0, :2] + part[0, 2:] > 0).all()


@pytest.mark.parametrize("shape", ["128", "300"])
def test_small_network_has_an_anchor_for_every_object(configure, anchors_of, shape):
    """Objects of 15 to 60 % of the side, up to twice as wide as high: nearly all meet an anchor with IoU 0.5."""
    cfg = configure("small", shape)
    anchors = anchors_of(build_test(cfg, 3), cfg)
    random = np.random.default_rng(0)
    side, ratio = np.exp(random.uniform(np.log([0.15, 0.5]), np.log([0.6, 2]), (500, 2))).T
    size = np.stack([side * ratio**0.5, side / ratio**0.5], axis=1)
    low = random.uniform(0, 1 - size)
    assert np.mean(_iou(np.hstack([low, low + size]), anchors).max(axis=1) >= 0.5) > 0.99


def test_one_class_more_than_the_dataset_has_for_the_background(configure):
    cfg = configure("small", 128)
    _, (prob, boxes), _ = build_test(cfg, 7).infer_shape(data=(2, 3, 128, 128))
    assert prob == (2, 8, 1600)
    assert boxes == (2, 1600, 4)


def test_normalized_layer_has_a_factor_of_its_own(configure):
    graph = build_test(configure("vgg16_reduced", 300), 3)
    scale = graph.attr_dict()["relu4_3_scale"]
    assert json.loads(scale["__init__"]) == ["constant", {"value": 20}]
    assert (scale["__shape__"], scale["__wd_mult__"]) == ("(1, 512, 1, 1)", "0.1")


def test_vgg_512_anchors_of_the_last_map_are_inside_the_image(configure):
    """The original's second, third and fourth cell lie outside; the default has one cell."""
    for compat, centers in ((None, {(0.5, 0.5)}), ("mxnet_ssd", {(0.5, 0.5), (1.5, 0.5), (0.5, 1.5), (1.5, 1.5)})):
        cfg = configure("vgg16_reduced", 512, compat)
        last = feature_maps(cfg)[-1]
        options = build_test(cfg, 3).attr_dict()[f"{last.name}_anchors"]
        cells = mx.nd.zeros((1, 1, last.height, last.width))
        anchors = mx.nd.contrib.MultiBoxPrior(cells, **{k: literal_eval(v) for k, v in options.items()}).asnumpy()[0]
        assert {tuple(np.round(box, 4)) for box in (anchors[:, :2] + anchors[:, 2:]) / 2} == centers


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(table[:, 2:] - table[:, :2]).prod(axis=1) for table in (boxes, others)]
    return inter / (areas[0][:, None] + areas[1][None] - inter)


VARIANCES = (0.1, 0.1, 0.2, 0.2)


def decode(loc: np.ndarray, anchors: np.ndarray, variances=VARIANCES) -> np.ndarray:
    """Boxes [B, N, 4] for offsets [B, N, 4] and anchors [N, 4]."""
    heads = MultiBox(cls=None, loc=mx.sym.Variable("loc"), anchors=mx.sym.Variable("anchors"))
    symbol = decode_boxes(heads, variances)
    assert symbol.list_outputs() == ["boxes_output"]
    flat = mx.nd.array(loc.reshape(len(loc), -1))
    return symbol.eval(loc=flat, anchors=mx.nd.array(anchors[None]))[0].asnumpy()


def encode(boxes: np.ndarray, anchors: np.ndarray, variances=VARIANCES) -> np.ndarray:
    """Liu et al. 2016, equation 2."""
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    center, anchor_center = (boxes[:, 2:] + boxes[:, :2]) / 2, (anchors[:, 2:] + anchors[:, :2]) / 2
    shift = (center - anchor_center) / anchor_size
    return np.hstack([shift, np.log(size / anchor_size)]) / np.asarray(variances)


corner = st.floats(0, 0.8)
side = st.floats(0.05, 0.2)


def boxes_of(rows) -> np.ndarray:
    return np.array([[x, y, x + w, y + h] for x, y, w, h in rows])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.tuples(corner, corner, side, side), st.tuples(corner, corner, side, side)), min_size=1),
    st.tuples(*[st.floats(0.05, 1)] * 4),
)
def test_decoding_undoes_encoding(pairs, variances):
    boxes, anchors = boxes_of(pair[0] for pair in pairs), boxes_of(pair[1] for pair in pairs)
    decoded = decode(encode(boxes, anchors, variances)[None], anchors, variances)
    np.testing.assert_allclose(decoded[0], boxes, atol=2e-5)


def test_equals_the_operator_of_mxnet():
    """MultiBoxDetection decodes too; without NMS and threshold it gives all boxes, in order of their scores."""
    random = np.random.default_rng(0)
    low = random.uniform(-0.2, 0.8, (40, 2))
    anchors = np.hstack([low, low + random.uniform(0.05, 0.5, (40, 2))]).astype(np.float32)
    loc = random.normal(0, 2, (2, 40, 4)).astype(np.float32)
    score = np.linspace(0.99, 0.5, 40)
    prob = np.stack([np.stack([1 - score, score])] * 2)
    rows = mx.nd.contrib.MultiBoxDetection(
        mx.nd.array(prob), mx.nd.array(loc.reshape(2, -1)), mx.nd.array(anchors[None]), nms_threshold=1.0, threshold=0.0
    ).asnumpy()
    np.testing.assert_allclose(decode(loc, anchors), rows[:, :, 2:], atol=1e-6)


def test_boxes_are_clipped_to_the_image_and_never_nan():
    anchors = np.array([[-0.3, 0.4, 0.2, 1.4]] * 2)
    decoded = decode(np.array([[[0, 0, 0, 0], [-1e30, 1e30, 1e30, -1e30]]]), anchors)
    np.testing.assert_allclose(decoded[0, 0], [0, 0.4, 0.2, 1])
    assert np.isfinite(decoded).all()


def test_boxes_may_reach_beyond_the_image(configure) -> None:
    """head.clip=false holds for a stored train graph, too, and for the original's way of decoding."""
    cfg = configure("small", 128)
    cfg.head.clip = False
    network = network_config(cfg)
    trained = mx.sym.load_json(build_train(network, 3).tojson())
    attached = attach_detection(trained, network.detection, network.head.variances, None)
    for graph in (build_test(network, 3), attached):
        assert graph.list_outputs() == ["cls_prob_output", "boxes_output"]
        assert "a_max" not in graph.attr_dict().get("boxes", {})
    original = attach_detection(trained, network.detection, network.head.variances, "mxnet_ssd")
    assert original.attr_dict()["detection"]["clip"] == "False"
    clipped = build_test(configure("small", 128), 3)
    assert clipped.attr_dict()["boxes"]["a_max"] == "1.0"


def test_epsilon_of_the_normalization(configure) -> None:
    cfg = configure("vgg16_reduced", 300)
    cfg.head.norm_epsilon = 1e-5
    assert float(build_test(cfg, 3).attr_dict()["relu4_3_norm"]["eps"]) == 1e-5
    assert float(build_test(configure("vgg16_reduced", 300), 3).attr_dict()["relu4_3_norm"]["eps"]) == 1e-10
