"""Detection inside an MXNet graph, with operators that plain MXNet has: what ssd.ops.boxes does on arrays."""

from typing import Any

from ssd.mxnet_compat import mx
from ssd.ops.boxes import DecodeParams
from ssd.utils.errors import UserError


def check_hard(params: DecodeParams) -> None:
    """Errors: UserError for ways of decoding that no exported graph has."""
    if params.soft_nms or params.flip:
        raise UserError(
            "detection.soft_nms and detection.flip do not go into an exported graph; "
            "add detection.soft_nms=null detection.flip=false"
        )


def suppressed(cls_prob: Any, boxes: Any, params: DecodeParams, shape: tuple[int, int]) -> Any:
    """Symbol `detection` [B, K, 6], rows (class, score, xmin, ymin, xmax, ymax), best score first, then rows of -1.

    cls_prob: [B, C+1, N], background first; boxes: [B, N, 4]; shape: (C, N). K is params.keep, or C times the
    candidates of a class where these are fewer.
    """
    classes, anchors = shape
    candidates = min(params.topk, anchors)
    with mx.name.Prefix("detection_"):
        scores = mx.sym.slice_axis(cls_prob, axis=1, begin=1, end=None)
        scores = mx.sym.expand_dims(scores, axis=3)
        corners = mx.sym.broadcast_axis(mx.sym.expand_dims(boxes, axis=1), axis=1, size=classes)
        rows = _best(mx.sym.Concat(scores, corners, dim=3), params, params.nms, candidates, axis=2)
        label = mx.sym.Reshape(mx.sym.arange(start=0, stop=classes), shape=(1, classes, 1, 1))
        label = mx.sym.broadcast_add(label, mx.sym.zeros_like(mx.sym.slice_axis(rows, axis=3, begin=0, end=1)))
        rows = mx.sym.Reshape(mx.sym.Concat(rows, label, dim=3), shape=(0, -1, 6))
        # Nothing overlaps by more than 1, so that this only sorts.
        rows = _best(rows, params, 1.0, min(params.keep, classes * candidates), axis=1)
        score, corners, label = (mx.sym.slice_axis(rows, axis=2, begin=a, end=b) for a, b in ((0, 1), (1, 5), (5, 6)))
    return mx.sym.Concat(label, score, corners, dim=2, name="detection")


def _best(rows: Any, params: DecodeParams, overlap: float, count: int, axis: int) -> Any:
    """Of rows (score, corners, …) along an axis the best `count` that are not suppressed, best first, then -1."""
    rows = mx.sym.contrib.box_nms(
        rows, overlap_thresh=overlap, valid_thresh=params.score, topk=count, coord_start=1, score_index=0, id_index=-1
    )
    return mx.sym.slice_axis(rows, axis=axis, begin=0, end=count)
