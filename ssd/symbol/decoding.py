"""From predicted offsets to boxes, inside the graph and with operators that every exporter knows."""

from collections.abc import Sequence

from ssd.mxnet_compat import mx
from ssd.symbol.multibox import MultiBox


def decode_boxes(heads: MultiBox, variances: Sequence[float]) -> mx.sym.Symbol:
    """Boxes [B, N, 4], corners (xmin, ymin, xmax, ymax) normalised to the image and clipped to 0..1.

    The inverse of Liu et al. 2016, equation 2, with the offsets multiplied by the four variances: centre = anchor's
    centre + offset x anchor's size, size = anchor's size x exp(offset).
    """
    with mx.name.Prefix("boxes_"):
        offsets = mx.sym.Reshape(heads.loc, shape=(0, -1, 4))
        (left, right), (top, bottom) = (_edges(heads.anchors, offsets, axis, variances) for axis in (0, 1))
        corners = mx.sym.Concat(left, top, right, bottom, dim=2)
    return mx.sym.clip(corners, a_min=0.0, a_max=1.0, name="boxes")


def _edges(
    anchors: mx.sym.Symbol, offsets: mx.sym.Symbol, axis: int, variances: Sequence[float]
) -> tuple[mx.sym.Symbol, mx.sym.Symbol]:
    """Lower and upper edge of all boxes along x (axis 0) or y (axis 1)."""
    low, high = _column(anchors, axis), _column(anchors, axis + 2)
    size, centre = high - low, (low + high) / 2
    centre = mx.sym.broadcast_add(mx.sym.broadcast_mul(_column(offsets, axis) * variances[axis], size), centre)
    stretch = mx.sym.exp(_column(offsets, axis + 2) * variances[axis + 2])
    half = mx.sym.broadcast_mul(stretch, size) / 2
    return centre - half, centre + half


def _column(table: mx.sym.Symbol, number: int) -> mx.sym.Symbol:
    return mx.sym.slice_axis(table, axis=2, begin=number, end=number + 1)
