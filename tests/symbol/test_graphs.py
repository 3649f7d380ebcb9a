import numpy as np
import pytest

from ssd.config.parts import detection_config
from ssd.mxnet_compat import mx
from ssd.symbol import attach_detection, build_test, build_train
from ssd.utils.errors import UserError

LABEL = np.array(
    [
        [[0, 0.1, 0.1, 0.5, 0.45, 0], [2, 0.15, 0.2, 0.85, 0.85, 0], [-1] * 6],
        [[1, 0.3, 0.2, 0.5, 0.4, 1], [-1] * 6, [-1] * 6],
    ]
)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (2, 3, 128, 128)).astype(np.float32)


def test_names_of_inputs_and_outputs(configure):
    cfg = configure("small", 128)
    assert build_train(cfg, 3).list_outputs() == ["cls_prob_output", "loc_loss_output", "cls_label_output"]
    assert build_test(cfg, 3).list_outputs() == ["cls_prob_output", "boxes_output"]
    assert "label" in build_train(cfg, 3).list_arguments()
    cfg = configure("small", 128, "mxnet_ssd")
    assert build_train(cfg, 3).list_outputs()[3:] == ["det_out_output"]
    assert build_test(cfg, 3).list_outputs() == ["detection_output"]


def test_number_of_classes_comes_from_the_dataset(configure):
    cfg = configure("small", 128)
    cfg.dataset = {"classes": ["a", "b"]}
    assert build_test(cfg).infer_shape(data=(1, 3, 128, 128))[1][0] == (1, 3, 1600)
    cfg.dataset = {"classes": None}
    with pytest.raises(UserError, match="dataset.classes is not set"):
        build_train(cfg)


def test_gradients_are_sums_over_anchors_and_images(configure, fill, pixels):
    """Against numpy: the biases of the last map's predictors get the sum of what its anchors say."""
    train = build_train(configure("small", 128), 3)
    internals = train.get_internals()
    nodes = ("multibox_loc_pred_output", "multibox_target_loc_target", "multibox_target_loc_mask")
    extra = [mx.sym.BlockGrad(internals[name]) for name in nodes]
    executor = mx.sym.Group([*train, *extra]).simple_bind(mx.cpu(), data=pixels.shape, label=LABEL.shape)
    fill(executor)
    executor.arg_dict["data"][:] = pixels
    executor.arg_dict["label"][:] = LABEL
    outputs = [array.asnumpy() for array in executor.forward(is_train=True)]
    executor.backward()
    prob, loss, label, loc, target, mask = outputs
    gradient = {name: array.asnumpy() for name, array in executor.grad_dict.items()}
    name, anchors = "multi_feat_2_conv_3x3_relu", slice(-64, None)

    wanted = (prob - (np.arange(4)[:, None] == label[:, None])) * (label >= 0)[:, None]
    wanted = wanted[..., anchors].reshape(2, 4, 16, 4).sum(axis=(0, 2)).T.ravel()
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(gradient[f"{name}_cls_pred_conv_bias"], wanted, rtol=1e-3, atol=1e-4)

    difference = (loc - target) * mask
    wanted = np.clip(difference, -1, 1).reshape(2, -1, 4)[:, anchors].reshape(2, 16, 16).sum(axis=(0, 1))
    np.testing.assert_allclose(gradient[f"{name}_loc_pred_conv_bias"], wanted, rtol=1e-3, atol=1e-4)
    size = np.abs(difference)
    np.testing.assert_allclose(loss, np.where(size < 1, size**2 / 2, size - 0.5), rtol=1e-4, atol=1e-5)


EMPTY = np.full((1, 3, 6), -1.0)


@pytest.mark.parametrize("count", [1, 5, 400, 10_000])
def test_images_without_objects_learn_background(configure, fill, count):
    """Against numpy: the least probable backgrounds become background, in images without a positive alone."""
    cfg = configure("small", 128)
    cfg.matching.min_negatives = count
    label = np.concatenate([LABEL, EMPTY, LABEL[:1], EMPTY])
    pixels = np.random.default_rng(2).normal(0, 1, (5, 3, 128, 128)).astype(np.float32)
    train = build_train(cfg, 3)
    plain = mx.sym.BlockGrad(train.get_internals()["multibox_target_cls_target"])
    executor = mx.sym.Group([*train, plain]).simple_bind(mx.cpu(), data=pixels.shape, label=label.shape)
    fill(executor)
    executor.arg_dict["data"][:] = pixels
    executor.arg_dict["label"][:] = label
    prob, loss, target, before = (array.asnumpy() for array in executor.forward(is_train=True))
    executor.backward()
    with_objects, without = [0, 1, 3], [2, 4]
    np.testing.assert_array_equal(target[with_objects], before[with_objects])
    assert (before[without] == -1).all()
    anchors = target.shape[1]
    for image in without:
        chosen = np.flatnonzero(target[image] == 0)
        assert len(chosen) == min(count, anchors)
        assert (np.delete(target[image], chosen) == -1).all()
        assert sorted(prob[image, 0, chosen]) == sorted(prob[image, 0])[: len(chosen)]
    assert not loss[without].any()
    wanted = (prob - (np.arange(4)[:, None] == target[:, None])) * (target >= 0)[:, None]
    name, last = "multi_feat_2_conv_3x3_relu", slice(-64, None)
    bias = executor.grad_dict[f"{name}_cls_pred_conv_bias"].asnumpy()
    wanted = wanted[..., last].reshape(5, 4, 16, 4).sum(axis=(0, 2)).T.ravel()
    np.testing.assert_allclose(bias, wanted, rtol=1e-3, atol=1e-4)


def test_background_of_images_without_objects_can_be_left_out(configure):
    cfg = configure("small", 128)
    cfg.matching.min_negatives = 0
    assert not [name for name in build_train(cfg, 3).get_internals().list_outputs() if name.startswith("negatives_")]
    # The original's graph leaves them to MultiBoxTarget, whatever that does on the device.
    cfg = configure("small", 128, "mxnet_ssd")
    assert cfg.matching.min_negatives == 0
    cfg.matching.min_negatives = 5
    assert not [name for name in build_train(cfg, 3).get_internals().list_outputs() if name.startswith("negatives_")]


@pytest.mark.parametrize("compat", [None, "mxnet_ssd"])
def test_attached_detection_equals_the_test_graph(configure, fill, pixels, compat):
    cfg = configure("small", 128, compat)
    train = mx.sym.load_json(build_train(cfg, 3).tojson())
    attached = attach_detection(train, detection_config(cfg), cfg.head.variances, cfg.compat)
    test = build_test(cfg, 3)
    assert attached.list_arguments() == test.list_arguments()
    assert attached.list_outputs() == test.list_outputs()
    names = [name.removesuffix("_output") for name in attached.get_internals().list_outputs()]
    assert len(names) == len(set(names))
    for ours, theirs in zip(_run(attached, pixels, fill), _run(test, pixels, fill), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_detection_needs_a_multibox_graph(configure):
    cfg = configure("small", 128)
    with pytest.raises(UserError, match="no node multibox_cls_pred, multibox_loc_pred, multibox_anchors"):
        attach_detection(mx.sym.Variable("x") + 1, cfg.detection, cfg.head.variances, None)


def test_boxes_equal_numpy_and_probabilities_sum_to_one(configure, fill, pixels):
    test = build_test(configure("small", 128), 3)
    internals = test.get_internals()
    nodes = [internals[f"multibox_{name}_output"] for name in ("cls_pred", "loc_pred", "anchors")]
    prob, boxes, scores, loc, anchors = _run(mx.sym.Group([*test, *nodes]), pixels, fill)
    np.testing.assert_allclose(prob.sum(axis=1), 1, rtol=1e-5)
    exponent = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(prob, exponent / exponent.sum(axis=1, keepdims=True), atol=1e-5)
    size, center = anchors[..., 2:] - anchors[..., :2], (anchors[..., 2:] + anchors[..., :2]) / 2
    loc = loc.reshape(2, -1, 4)
    center, size = center + loc[..., :2] * 0.1 * size, size * np.exp(loc[..., 2:] * 0.2)
    wanted = np.concatenate([center - size / 2, center + size / 2], axis=2).clip(0, 1)
    np.testing.assert_allclose(boxes, wanted, atol=1e-5)


def test_matching_and_detection_follow_the_configuration(configure):
    cfg = configure("small", 128, "mxnet_ssd")
    cfg.matching.update({"overlap": 0.4, "negative_ratio": 2.0, "negative_overlap": 0.6, "min_negatives": 5})
    cfg.detection.update({"score_threshold": 0.2, "nms_threshold": 0.3, "pre_nms_topk": 50, "max_detections": 10})
    attributes = build_train(cfg, 3).attr_dict()
    target, detection = attributes["multibox_target"], attributes["detection"]
    assert float(target["overlap_threshold"]) == 0.4
    assert float(target["negative_mining_ratio"]) == 2
    assert float(target["negative_mining_thresh"]) == 0.6
    assert int(target["minimum_negative_samples"]) == 5
    assert float(detection["threshold"]) == 0.2
    assert float(detection["nms_threshold"]) == 0.3
    assert int(detection["nms_topk"]) == 50


def _run(symbol: mx.sym.Symbol, pixels: np.ndarray, fill) -> list[np.ndarray]:
    executor = symbol.simple_bind(mx.cpu(), data=pixels.shape, grad_req="null")
    fill(executor)
    executor.arg_dict["data"][:] = pixels
    return [array.asnumpy() for array in executor.forward(is_train=False)]
