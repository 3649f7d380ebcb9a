"""Suppression inside of ONNX graphs decides as ssd.ops.boxes, and with compat as MXNet's MultiBoxDetection."""

import numpy as np
import onnx
import onnxruntime
import pytest

from ssd.export.onnx.builder import OPSET, Builder
from ssd.export.onnx.suppression import add_original_suppression, add_suppression
from ssd.export.suppression import suppressed
from ssd.mxnet_compat import mx
from ssd.ops.boxes import DecodeParams, decode, rows_to_detections


def params(**changes):
    base = {"score": 0.1, "nms": 0.45, "topk": 40, "keep": 20, "soft_nms": None, "sigma": 0.5, "flip": False}
    return DecodeParams(**{**base, **changes})


def session(add, settings, classes, anchors):
    builder = Builder()
    detection = add(builder, settings, classes, anchors)
    value = onnx.helper.make_tensor_value_info
    inputs = [value("cls_prob", 1, ("batch", classes + 1, anchors)), value("boxes", 1, ("batch", anchors, 4))]
    outputs = [value(detection, 1, ("batch", None, 6))]
    graph = onnx.helper.make_graph(builder.nodes, "test", inputs, outputs, builder.constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def made_up(seed, batch, classes, anchors):
    """Scores that are all different, and boxes of which many overlap."""
    rng = np.random.default_rng(seed)
    prob = rng.permutation(batch * (classes + 1) * anchors).reshape(batch, classes + 1, anchors) + 1
    corner = rng.integers(0, 12, (batch, anchors, 2)) / 20
    boxes = np.concatenate([corner, corner + rng.integers(3, 9, (batch, anchors, 2)) / 20], axis=2)
    return (prob / prob.size).astype(np.float32), boxes.astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("classes", "anchors", "changes"),
    [
        (3, 60, {}),
        (1, 60, {}),
        (20, 300, {}),
        (3, 5, {}),  # fewer candidates than topk
        (2, 60, {"keep": 500}),
        (2, 60, {"score": 0.99}),
        (2, 60, {"score": 0.9999999}),  # nothing
        (2, 60, {"nms": 1.0}),
        (2, 60, {"nms": 0.0}),
    ],
)
def test_as_on_arrays(batch, classes, anchors, changes):
    settings = params(**changes)
    run = session(add_suppression, settings, classes, anchors)
    for seed in range(3):
        prob, boxes = made_up(seed, batch, classes, anchors)
        (output,) = run.run(None, {"cls_prob": prob, "boxes": boxes})
        assert output.shape == (batch, min(settings.keep, classes * min(settings.topk, anchors)), 6)
        for rows, expected in zip(output, decode(prob, boxes, settings), strict=True):
            np.testing.assert_array_equal(rows[: len(expected)], expected)
            assert (rows[len(expected) :] == -1).all()


def test_equal_scores_come_by_class_then_by_anchor():
    prob = np.full((1, 3, 6), 0.5, np.float32)
    boxes = np.array([[[x, 0, x + 1, 1] for x in range(6)]], np.float32)
    settings = params(keep=10)
    (output,) = session(add_suppression, settings, 2, 6).run(None, {"cls_prob": prob, "boxes": boxes})
    np.testing.assert_array_equal(output[0], decode(prob, boxes, settings)[0])


@pytest.mark.parametrize("changes", [{}, {"topk": 7}, {"nms": 0.9}, {"score": 0.901}])
def test_as_the_original(changes):
    settings = params(**changes)
    prob, anchors = made_up(0, 2, 4, 60)
    offsets = mx.nd.zeros((2, 240))
    prior = mx.nd.array(anchors[:1])
    boxes = np.repeat(anchors[:1], 2, axis=0).clip(0, 1)
    expected = mx.nd.contrib.MultiBoxDetection(
        mx.nd.array(prob), offsets, prior, threshold=settings.score, nms_threshold=settings.nms,
        nms_topk=settings.topk, clip=True,
    )  # fmt: skip
    (output,) = session(add_original_suppression, settings, 4, 60).run(None, {"cls_prob": prob, "boxes": boxes})
    pairs = zip(rows_to_detections(output), rows_to_detections(expected.asnumpy()), strict=True)
    for rows, theirs in pairs:
        assert len(rows)
        np.testing.assert_allclose(rows, theirs, atol=1e-6)


def at_limits(seed, batch, classes, anchors):
    """Scores in eighths and boxes on a grid: they, and overlaps, are often equal to each other and to limits."""
    rng = np.random.default_rng(seed)
    prob = rng.integers(0, 9, (batch, classes + 1, anchors)) / 8
    corner = rng.integers(0, 6, (batch, anchors, 2)) / 8
    boxes = np.concatenate([corner, corner + rng.integers(0, 4, corner.shape) / 8], axis=2)
    return prob.astype(np.float32), boxes.astype(np.float32)


@pytest.mark.parametrize("nms", [0.0, 0.25, 1 / 3, 0.45, 0.5, 0.6, 2 / 3, 1.0])
@pytest.mark.parametrize("changes", [{}, {"score": 0.0}, {"score": 0.5, "topk": 7}, {"score": 0.25, "keep": 9}])
def test_equality_on_arrays_in_onnx_and_in_mxnet(changes, nms):
    """The three ways to the same answer, where a score is the limit, an overlap is, and scores are the same."""
    settings = params(nms=nms, **changes)
    run = session(add_suppression, settings, 3, 30)
    graph = suppressed(mx.sym.Variable("p"), mx.sym.Variable("b"), settings, (3, 30))
    for seed in range(4):
        prob, boxes = at_limits(seed, 2, 3, 30)
        bound = graph.bind(mx.cpu(), args={"p": mx.nd.array(prob), "b": mx.nd.array(boxes)}, grad_req="null")
        in_mxnet = rows_to_detections(bound.forward()[0].asnumpy())
        in_onnx = rows_to_detections(run.run(None, {"cls_prob": prob, "boxes": boxes})[0])
        for rows, others, expected in zip(in_onnx, in_mxnet, decode(prob, boxes, settings), strict=True):
            np.testing.assert_array_equal(rows, expected)
            np.testing.assert_array_equal(others, expected)


def originally(prob, boxes, settings):
    """By MXNet's operator."""
    batch, _, anchors = prob.shape
    return mx.nd.contrib.MultiBoxDetection(
        mx.nd.array(prob), mx.nd.zeros((batch, 4 * anchors)), mx.nd.array(boxes[:1]), threshold=settings.score,
        nms_threshold=settings.nms, nms_topk=settings.topk, clip=True,
    ).asnumpy()  # fmt: skip


@pytest.mark.parametrize("nms", [0.0, 0.25, 1 / 3, 0.45, 0.5, 0.6, 2 / 3, 1.0])
@pytest.mark.parametrize("changes", [{}, {"score": 0.0}, {"score": 0.5}, {"score": 0.25, "topk": 7}])
def test_equality_as_the_original(changes, nms):
    settings = params(nms=nms, **changes)
    run = session(add_original_suppression, settings, 3, 30)
    for seed in range(4):
        prob, boxes = at_limits(seed, 2, 3, 30)
        boxes[1] = boxes[0]  # anchors, which a batch shares
        (output,) = run.run(None, {"cls_prob": prob, "boxes": boxes})
        pairs = zip(rows_to_detections(output), rows_to_detections(originally(prob, boxes, settings)), strict=True)
        for rows, expected in pairs:
            assert len(expected)
            np.testing.assert_array_equal(rows, expected)


HALVES = np.array([[[0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 1, 0.25]]], np.float32)  # each half of the one before


@pytest.mark.parametrize(
    ("add", "settings", "kept"),
    [
        (add_suppression, {"score": 0.25, "nms": 0.4}, [0.75]),  # more than the limit, and less overlap suppresses
        (add_suppression, {"score": 0.25, "nms": 0.5}, [0.75, 0.5]),
        (add_original_suppression, {"score": 0.25, "nms": 0.5}, [0.75, 0.25]),
        (add_original_suppression, {"score": 0.250001, "nms": 0.5}, [0.75]),
        (add_original_suppression, {"score": 0.25, "nms": 0.500001}, [0.75, 0.5, 0.25]),
        (add_original_suppression, {"score": 0.25, "nms": 0.0}, [0.75, 0.5, 0.25]),
    ],
)
def test_golden_equalities(add, settings, kept):
    prob = np.array([[[0, 0, 0], [0.75, 0.5, 0.25]]], np.float32)
    (output,) = session(add, params(**settings), 1, 3).run(None, {"cls_prob": prob, "boxes": HALVES})
    assert output[0][output[0][:, 0] >= 0, 1].tolist() == kept
    if add is add_original_suppression:
        theirs = rows_to_detections(originally(prob, HALVES, params(**settings)))[0]
        assert theirs[:, 1].tolist() == kept


def test_of_two_equal_classes_the_original_takes_the_first():
    prob = np.array([[[0.2], [0.4], [0.4]]], np.float32)
    settings = params()
    (output,) = session(add_original_suppression, settings, 2, 1).run(None, {"cls_prob": prob, "boxes": HALVES[:, :1]})
    assert output[0, :, 0].tolist() == rows_to_detections(originally(prob, HALVES[:, :1], settings))[0][:, 0].tolist()
    assert output[0, 0, 0] == 0
