"""DetectionOutput: from predictions and anchors to class probabilities and boxes; the rest is left to the detector."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ssd.importers.caffe.graph import Graph, Heads, UnsupportedError, Value, converts, format_shape, symbol_of
from ssd.importers.caffe.layers import Layer
from ssd.mxnet_compat import mx

MAX_KEPT = 1 << 20  # Caffe's "all"


@dataclass(frozen=True)
class HeadOptions:
    """classes: with the background. background: its number, -1 for none. shared: one box per anchor, not per class.
    code: "CORNER", "CENTER_SIZE" or "CORNER_SIZE". encoded: whether the network's offsets contain the variances."""

    classes: int
    background: int
    shared: bool
    code: str
    encoded: bool
    clip: bool


def _decimal(value: float) -> float:
    """What was written in the file: 0.45, not the 0.44999998807907104 that a float of 32 bits makes of it."""
    return float(str(np.float32(value)))


class HeadInputs(NamedTuple):
    """Offsets [1, N * L * 4] (L = 1, or the classes), probabilities [1, N * C], anchors [1, 2, N * 4] of corners and
    variances; sources: names of the probabilities and the offsets."""

    loc: Value
    conf: Value
    priors: np.ndarray
    sources: tuple[str, str]


@converts("DetectionOutput", inputs=(3, 4))
def detection_output(graph: Graph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Its top is no array of the graph: what it would hold is what the detector makes of graph.heads."""
    options = layer.options.detection_output_param
    if graph.heads:
        raise UnsupportedError("a second layer of this type")
    suppression = options.nms_param
    if suppression.eta != 1:
        raise UnsupportedError(f"eta {suppression.eta:g}: suppression with a falling threshold")
    code = options.DESCRIPTOR.enum_types_by_name["CodeType"].values_by_number[options.code_type].name
    heads = HeadOptions(
        options.num_classes, options.background_label_id, options.share_location, code,
        options.variance_encoded_in_target, options.clip,
    )  # fmt: skip
    priors = bottoms[2].constant
    if priors is None or priors.ndim != 3 or priors.shape[:2] != (1, 2) or priors.shape[2] % 4:
        raise UnsupportedError(f"its third input {format_shape(bottoms[2].shape)} is no PriorBox's")
    detection = {
        "score": max(0.0, _decimal(options.confidence_threshold)),
        "nms": min(1.0, max(0.0, _decimal(suppression.nms_threshold))),
        "topk": suppression.top_k if suppression.top_k > 0 else MAX_KEPT,
        "keep": options.keep_top_k if options.keep_top_k > 0 else MAX_KEPT,
    }
    inputs = HeadInputs(bottoms[0], bottoms[1], priors, (layer.bottoms[1], layer.bottoms[0]))
    graph.heads = make_heads(graph, inputs, heads, detection)
    return [Value(())] * len(layer.tops)


def make_heads(graph: Graph, inputs: HeadInputs, options: HeadOptions, detection: dict[str, Any]) -> Heads:
    """Errors: UnsupportedError when the inputs do not go together."""
    loc, conf, priors, sources = inputs
    classes, background = options.classes, options.background
    if not 1 <= classes <= 10_000 or not -1 <= background < classes or classes == (background >= 0):
        raise UnsupportedError(f"num_classes {classes} with background_label_id {background}")
    corners, variances = (priors[0, row].reshape(-1, 4) for row in (0, 1))
    count, sets = len(corners), 1 if options.shared else classes
    for value, size, what in ((loc, count * sets * 4, "offsets"), (conf, count * classes, "probabilities")):
        if int(np.prod(value.shape, dtype=object)) != size:
            raise UnsupportedError(f"{format_shape(value.shape)} {what} for {count} anchors and {classes} classes")
    objects = [number for number in range(classes) if number != background]
    graph.checked((len(objects) + 1, count * (1 if options.shared else len(objects))))
    graph.checked((count, sets, 4))

    boxes = _decoded(graph, mx.sym.Reshape(symbol_of(loc), shape=(0, count, sets, 4)), corners, variances, options)
    table = mx.sym.Reshape(symbol_of(conf), shape=(0, count, classes))
    table = _background_first(mx.sym.transpose(table, axes=(0, 2, 1)), background, classes)
    if options.shared:
        boxes = mx.sym.Reshape(boxes, shape=(0, -1, 4))
    else:
        table, boxes = _candidate_per_class(graph, table, _rows(boxes, background, classes, axis=2), len(objects))
    cls_prob, boxes = mx.sym.identity(table, name="cls_prob"), mx.sym.identity(boxes, name="boxes")
    return Heads(cls_prob, boxes, objects, detection, priors, sources)


def _decoded(graph: Graph, loc: Any, corners: np.ndarray, variances: np.ndarray, options: HeadOptions) -> Any:
    """Boxes [B, N, L, 4], corners, of offsets [B, N, L, 4]."""

    def number(what: str, array: np.ndarray) -> Any:
        return graph.parameter(f"anchors_{what}", array[None, :, None], own=False)

    if options.encoded:
        variances = np.ones_like(variances)
    sizes = corners[:, 2:] - corners[:, :2]
    centers = (corners[:, :2] + corners[:, 2:]) / 2

    def center_size() -> Any:
        xy, wh = (mx.sym.slice_axis(loc, axis=3, begin=start, end=start + 2) for start in (0, 2))
        moved = mx.sym.broadcast_mul(xy, number("shift", variances[:, :2] * sizes))
        center = mx.sym.broadcast_add(moved, number("center", centers))
        stretch = mx.sym.exp(mx.sym.broadcast_mul(wh, number("stretch", variances[:, 2:])))
        half = mx.sym.broadcast_mul(stretch, number("half", sizes / 2))
        return mx.sym.Concat(center - half, center + half, dim=3)

    def corner(unit: np.ndarray) -> Any:
        moved = mx.sym.broadcast_mul(loc, number("shift", variances * unit))
        return mx.sym.broadcast_add(moved, number("corners", corners))

    decoders: dict[str, Callable[[], Any]] = {
        "CENTER_SIZE": center_size,
        "CORNER": lambda: corner(np.ones_like(corners)),
        "CORNER_SIZE": lambda: corner(np.concatenate([sizes, sizes], axis=1)),
    }
    if options.code not in decoders:
        raise UnsupportedError(f"code_type {options.code}")
    boxes = decoders[options.code]()
    return mx.sym.clip(boxes, a_min=0.0, a_max=1.0) if options.clip else boxes


def _background_first(table: Any, background: int, classes: int) -> Any:
    """Probabilities [B, C, N] with the background's row first; one of zeros where the network has none."""
    if background == 0:
        return table
    if background < 0:
        nothing = mx.sym.zeros_like(mx.sym.slice_axis(table, axis=1, begin=0, end=1))
    else:
        nothing = mx.sym.slice_axis(table, axis=1, begin=background, end=background + 1)
    return mx.sym.Concat(nothing, _rows(table, background, classes, axis=1), dim=1)


def _rows(array: Any, background: int, classes: int, axis: int) -> Any:
    """An array without the background's slice along the axis of classes."""
    spans = [(0, background), (background + 1, classes)]
    parts = [mx.sym.slice_axis(array, axis=axis, begin=low, end=high) for low, high in spans if low < high]
    return parts[0] if len(parts) == 1 else mx.sym.Concat(*parts, dim=axis)


def _candidate_per_class(graph: Graph, table: Any, boxes: Any, objects: int) -> tuple[Any, Any]:
    """Where each class has boxes of its own: each anchor as one candidate per class, which is of that class or nothing.

    table [B, C + 1, N] and boxes [B, N, C, 4] -> [B, C + 1, C * N] and [B, C * N, 4].
    """
    background = mx.sym.tile(mx.sym.slice_axis(table, axis=1, begin=0, end=1), reps=(1, 1, objects))
    rows = mx.sym.expand_dims(mx.sym.slice_axis(table, axis=1, begin=1, end=objects + 1), axis=1)
    own = graph.parameter("anchors_class", np.eye(objects)[None, :, :, None], own=False)
    spread = mx.sym.broadcast_mul(rows, own)  # [B, class asked about, class of the candidate, N]
    spread = mx.sym.Reshape(spread, shape=(0, objects, -1))
    boxes = mx.sym.Reshape(mx.sym.transpose(boxes, axes=(0, 2, 1, 3)), shape=(0, -1, 4))
    return mx.sym.Concat(background, spread, dim=1), boxes
