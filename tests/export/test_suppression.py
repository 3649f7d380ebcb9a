"""Suppression inside of MXNet graphs decides as ssd.ops.boxes."""

import numpy as np
import pytest

from ssd.export.suppression import check_hard, suppressed
from ssd.mxnet_compat import mx
from ssd.ops.boxes import DecodeParams, decode
from ssd.utils.errors import UserError


def params(**changes):
    base = {"score": 0.1, "nms": 0.45, "topk": 40, "keep": 20, "soft_nms": None, "sigma": 0.5, "flip": False}
    return DecodeParams(**{**base, **changes})


@pytest.mark.parametrize(
    ("classes", "anchors", "changes"),
    [
        (3, 60, {}),
        (1, 60, {}),
        (20, 300, {}),
        (3, 5, {}),
        (2, 60, {"keep": 500}),
        (2, 60, {"score": 0.99}),
        (2, 60, {"score": 0.9999999}),
        (2, 60, {"nms": 1.0}),
    ],
)
def test_as_on_arrays(classes, anchors, changes):
    settings = params(**changes)
    rng = np.random.default_rng(0)
    prob = rng.permutation(3 * (classes + 1) * anchors).reshape(3, classes + 1, anchors) + 1
    prob = (prob / prob.size).astype(np.float32)
    corner = rng.uniform(0, 0.6, (3, anchors, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, corner.shape)], axis=2).astype(np.float32)
    graph = suppressed(mx.sym.Variable("p"), mx.sym.Variable("b"), settings, (classes, anchors))
    bound = graph.bind(mx.cpu(), args={"p": mx.nd.array(prob), "b": mx.nd.array(boxes)}, grad_req="null")
    output = bound.forward()[0].asnumpy()
    assert output.shape == (3, min(settings.keep, classes * min(settings.topk, anchors)), 6)
    for rows, expected in zip(output, decode(prob, boxes, settings), strict=True):
        np.testing.assert_array_equal(rows[: len(expected)], expected)
        assert (rows[len(expected) :] == -1).all()


@pytest.mark.parametrize("changes", [{"soft_nms": "linear"}, {"flip": True}])
def test_what_no_graph_has(changes):
    with pytest.raises(UserError, match="add detection.soft_nms=null detection.flip=false"):
        check_hard(params(**changes))
