"""Predictors and anchors on every feature map, joined into three tensors (Liu et al. 2016, section 2.1), and the boxes
that they predict, inside the graph and with operators that every exporter knows.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ssd.mxnet_compat import mx
from ssd.symbol.head import HeadLayer
from ssd.symbol.layers import biased_conv


class MultiBox(NamedTuple):
    """What the network says about its N anchors, C classes.

    cls: class scores before the softmax [B, C + 1, N], class 0 is the background.
    loc: box offsets [B, 4 N] in the anchor's coordinates divided by the variances (center x, y, log width, height).
    anchors: corners [1, N, 4] (xmin, ymin, xmax, ymax), normalized to the image, not clipped.
    """

    cls: mx.sym.Symbol
    loc: mx.sym.Symbol
    anchors: mx.sym.Symbol


# Names of the three nodes; attach_detection finds them again in a stored graph.
CLS, LOC, ANCHORS = "multibox_cls_pred", "multibox_loc_pred", "multibox_anchors"
UNCLIPPED = "__unclipped__"  # attribute of the second one


def build_multibox(
    features: list[mx.sym.Symbol],
    layers: list[HeadLayer],
    num_classes: int,
    prior: float | None = None,
    *,
    clip: bool,
) -> MultiBox:
    """Joins the predictors of all features; anchors run over features, rows, columns, then sizes and ratios.

    prior: probability, of all classes together, that the predictors begin with; None = evenly divided over background
    and classes. clip: whether decode_boxes ends the boxes at the image; a stored graph remembers it.
    """
    bias = [0.0] * (num_classes + 1)
    if prior is not None:
        bias[0] = math.log(num_classes * (1 - prior) / prior)
    parts = [_predict(*pair, bias) for pair in zip(features, layers, strict=True)]
    loc = mx.sym.Concat(*(part.loc for part in parts), dim=1, name=LOC, attr=None if clip else {UNCLIPPED: "true"})
    cls = mx.sym.Concat(*(part.cls for part in parts), dim=1, name=f"{CLS}_concat")
    cls = mx.sym.Reshape(cls, shape=(0, -1, num_classes + 1), name=f"{CLS}_reshape")
    cls = mx.sym.transpose(cls, axes=(0, 2, 1), name=CLS)
    anchors = mx.sym.Concat(*(part.anchors for part in parts), dim=1, name=f"{ANCHORS}_concat")
    anchors = mx.sym.Reshape(anchors, shape=(0, -1, 4), name=ANCHORS)
    return MultiBox(cls, loc, anchors)


def _predict(feature: mx.sym.Symbol, layer: HeadLayer, bias: list[float]) -> MultiBox:
    """Predictions of one feature map, each flattened to [B, -1] with the cell's anchors side by side.

    bias: what the scores of an anchor begin with [C + 1].
    """
    name = feature.name
    if layer.scale is not None:
        feature = _normalize(feature, layer)
    count = layer.anchors_per_cell
    loc = biased_conv(feature, f"{name}_loc_pred_conv", count * 4, 3, (1, 1))
    biases = bias * count if any(bias) else None
    cls = biased_conv(feature, f"{name}_cls_pred_conv", count * len(bias), 3, (1, 1), biases)
    anchors = mx.sym.contrib.MultiBoxPrior(
        feature, sizes=layer.sizes, ratios=layer.ratios, clip=False, steps=(layer.step, layer.step),
        name=f"{name}_anchors",
    )  # fmt: skip
    return MultiBox(
        cls=_flatten(cls, f"{name}_cls_pred"),
        loc=_flatten(loc, f"{name}_loc_pred"),
        anchors=mx.sym.Flatten(anchors, name=f"{name}_anchors_flatten"),
    )


def _normalize(feature: mx.sym.Symbol, layer: HeadLayer) -> mx.sym.Symbol:
    """Unit length at each cell times a learned factor per channel (Liu et al. 2015, "ParseNet"): conv4_3's values are
    much larger than those of later layers."""
    name = feature.name
    unit = mx.sym.L2Normalization(feature, mode="channel", eps=layer.epsilon, name=f"{name}_norm")
    factor = mx.sym.Variable(
        f"{name}_scale", shape=(1, layer.filters, 1, 1), init=mx.init.Constant(layer.scale), attr={"__wd_mult__": "0.1"}
    )
    return mx.sym.broadcast_mul(factor, unit, name=f"{name}_scaled")


def _flatten(data: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    moved = mx.sym.transpose(data, axes=(0, 2, 3, 1), name=f"{name}_transpose")
    return mx.sym.Flatten(moved, name=f"{name}_flatten")


def decode_boxes(heads: MultiBox, variances: Sequence[float]) -> mx.sym.Symbol:
    """Boxes [B, N, 4], corners (xmin, ymin, xmax, ymax) normalized to the image, and clipped to 0..1 if the graph was
    built so.

    The inverse of Liu et al. 2016, equation 2, with the offsets multiplied by the four variances: center = anchor's
    center + offset x anchor's size, size = anchor's size x exp(offset).
    """
    with mx.name.Prefix("boxes_"):
        offsets = mx.sym.Reshape(heads.loc, shape=(0, -1, 4))
        (left, right), (top, bottom) = (_edges(heads.anchors, offsets, axis, variances) for axis in (0, 1))
        corners = mx.sym.Concat(left, top, right, bottom, dim=2)
    if not is_clipped(heads):
        return mx.sym.Concat(left, top, right, bottom, dim=2, name="boxes")
    return mx.sym.clip(corners, a_min=0.0, a_max=1.0, name="boxes")


def is_clipped(heads: MultiBox) -> bool:
    """Whether boxes end at the image before suppression."""
    return heads.loc.attr(UNCLIPPED) is None


def _edges(
    anchors: mx.sym.Symbol, offsets: mx.sym.Symbol, axis: int, variances: Sequence[float]
) -> tuple[mx.sym.Symbol, mx.sym.Symbol]:
    """Lower and upper edge of all boxes along x (axis 0) or y (axis 1)."""
    low, high = _column(anchors, axis), _column(anchors, axis + 2)
    size, center = high - low, (low + high) / 2
    center = mx.sym.broadcast_add(mx.sym.broadcast_mul(_column(offsets, axis) * variances[axis], size), center)
    stretch = mx.sym.exp(_column(offsets, axis + 2) * variances[axis + 2])
    half = mx.sym.broadcast_mul(stretch, size) / 2
    return center - half, center + half


def _column(table: mx.sym.Symbol, number: int) -> mx.sym.Symbol:
    return mx.sym.slice_axis(table, axis=2, begin=number, end=number + 1)
