import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.mxnet_compat import mx
from ssd.symbol.decoding import decode_boxes
from ssd.symbol.multibox import MultiBox

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
    centre, anchor_centre = (boxes[:, 2:] + boxes[:, :2]) / 2, (anchors[:, 2:] + anchors[:, :2]) / 2
    shift = (centre - anchor_centre) / anchor_size
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


def test_boxes_are_clipped_to_the_picture_and_never_nan():
    anchors = np.array([[-0.3, 0.4, 0.2, 1.4]] * 2)
    decoded = decode(np.array([[[0, 0, 0, 0], [-1e30, 1e30, 1e30, -1e30]]]), anchors)
    np.testing.assert_allclose(decoded[0, 0], [0, 0.4, 0.2, 1])
    assert np.isfinite(decoded).all()
