"""Detection inside an ONNX graph, with standard operators and any batch size: what ssd.ops.boxes does on arrays.

Batch and classes become one axis, so that one NonMaxSuppression serves all; what it keeps is scattered back into a
table of scores, in which everything else is -1.
"""

import numpy as np

from ssd.export.onnx.builder import Builder
from ssd.ops.boxes import DecodeParams


def add_suppression(onnx: Builder, params: DecodeParams, classes: int, anchors: int) -> str:
    """Of `cls_prob` [B, C+1, N], background first, and `boxes` [B, N, 4]: `detection` [B, K, 6], rows (class, score,
    xmin, ymin, xmax, ymax), best score first, then rows of -1. K is params.keep, or fewer where there are no more
    candidates."""
    count = min(params.topk, anchors)
    values, index = _top(onnx, _scores(onnx, classes), count, "candidates")
    index = _reshape(onnx, index, [0, classes * count, 1], "candidates_index")
    boxes = onnx.add("GatherND", ["boxes", index], "candidates_boxes", batch_dims=1)
    grouped = _reshape(onnx, boxes, [-1, count, 4], "boxes_by_class")
    by_class = _reshape(onnx, values, [-1, 1, count], "scores_by_class")
    kept = _suppress(onnx, grouped, by_class, (params.score, params.nms), count)
    table = _reshape(onnx, kept, [-1, classes * count], "kept_by_image")
    score, place = _top(onnx, table, min(params.keep, classes * count), "best")
    label = onnx.add("Div", [place, onnx.numbers(count, "candidates_per_class")], "best_class")
    return _rows(onnx, label, score, _gather(onnx, boxes, place))


def add_original_suppression(onnx: Builder, params: DecodeParams, classes: int, anchors: int) -> str:
    """The same as MXNet's MultiBoxDetection decides: the best class of an anchor alone, the first of equal ones;
    params.topk over all classes, and no other limit; a score equal to the limit stays, an IoU equal to it suppresses.
    With params.nms = 0 it suppresses nothing, and params.topk is not looked at."""
    count = min(params.topk, anchors) if params.topk > 0 and params.nms > 0 else anchors
    scores = _scores(onnx, classes)
    best = onnx.add("ReduceMax", [scores], "best_score", axes=[1], keepdims=1)
    first = onnx.add("ArgMax", [scores], "first_best_class", axis=1, keepdims=1)
    numbers = onnx.constant(np.arange(classes).reshape(1, classes, 1), "class_numbers")
    is_best = onnx.add("Equal", [numbers, first], "is_best")
    scores = onnx.add("Where", [is_best, scores, onnx.scalar(-1, "no_score")], "scores_of_best")
    anchor_scores = onnx.add("Squeeze", [best, onnx.numbers([1], "class_axis")], "anchor_scores")
    _, index = _top(onnx, anchor_scores, count, "candidates")
    boxes = _gather(onnx, "boxes", index)
    by_anchor = onnx.add("Transpose", [scores], "scores_by_anchor", perm=[0, 2, 1])
    chosen = onnx.add("Transpose", [_gather(onnx, by_anchor, index)], "scores_by_class", perm=[0, 2, 1])
    kept = _suppress_originally(onnx, boxes, chosen, params, (classes, count))
    table = _reshape(onnx, kept, [-1, classes * count], "kept_by_image")
    # By anchor, then by class: of equal scores the first anchor comes first, as there.
    places = np.arange(classes * count).reshape(classes, count).T.reshape(-1)
    table = onnx.add("Gather", [table, onnx.constant(places, "anchor_by_anchor")], "kept_by_anchor", axis=1)
    score, place = _top(onnx, table, count, "best")
    size = onnx.numbers(classes, "classes")
    label = onnx.add("Mod", [place, size], "best_class")
    return _rows(onnx, label, score, _gather(onnx, boxes, onnx.add("Div", [place, size], "best_anchor")))


def _suppress_originally(onnx: Builder, boxes: str, scores: str, params: DecodeParams, shape: tuple[int, int]) -> str:
    """What stays of scores [B, C, count], -1 elsewhere, of boxes [B, count, 4]; shape: (C, count)."""
    classes, count = shape
    if params.nms == 0:
        enough = onnx.add("GreaterOrEqual", [scores, onnx.scalar(params.score, "score")], "enough")
        return onnx.add("Where", [enough, scores, onnx.scalar(-1, "suppressed")], "kept")
    repeated = onnx.add("Unsqueeze", [boxes, onnx.numbers([1], "new_axis")], "boxes_once")
    expanded = onnx.add("Expand", [repeated, onnx.numbers([1, classes, 1, 1], "repeats")], "boxes_repeated")
    grouped = _reshape(onnx, expanded, [-1, count, 4], "boxes_by_class")
    # NonMaxSuppression wants more than its limits, in 32 bits: more than the number before is at least the number.
    limits = _before(params.score), _before(params.nms)
    return _suppress(onnx, grouped, _reshape(onnx, scores, [-1, 1, count], "scores_of_classes"), limits, count)


def _before(limit: float) -> float:
    """The largest float32 below a limit, and something below 0 for 0."""
    return float(np.nextafter(np.float32(limit), np.float32(-1))) if limit > 0 else -0.5


def _scores(onnx: Builder, classes: int) -> str:
    bounds = [onnx.numbers([value], f"foreground_{value}") for value in (1, classes + 1)]
    return onnx.add("Slice", ["cls_prob", *bounds, bounds[0]], "foreground")


def _suppress(onnx: Builder, boxes: str, scores: str, limits: tuple[float, float], count: int) -> str:
    """[G, count]: the scores [G, 1, count] of what is kept of boxes [G, count, 4], -1 elsewhere.

    limits: a score must be greater than the first, and an IoU that suppresses than the second."""
    least, overlap = onnx.scalar(limits[0], "score"), onnx.scalar(limits[1], "nms")
    chosen = onnx.add("NonMaxSuppression", [boxes, scores, onnx.numbers(count, "most"), overlap, least], "chosen")
    chosen = onnx.add("Gather", [chosen, onnx.numbers([0, 2], "group_and_box")], "chosen_places", axis=1)
    flat = _reshape(onnx, scores, [-1, count], "scores_flat")
    empty = onnx.add(
        "Sub", [onnx.add("Mul", [flat, onnx.scalar(0, "nothing")], "zeros"), onnx.scalar(1, "one")], "none"
    )
    return onnx.add("ScatterND", [empty, chosen, onnx.add("GatherND", [flat, chosen], "chosen_scores")], "kept")


def _rows(onnx: Builder, label: str, score: str, boxes: str) -> str:
    axis = onnx.numbers([-1], "last_axis")
    label = onnx.add("Unsqueeze", [onnx.add("Cast", [label], "class_number", to=1), axis], "class_column")
    score = onnx.add("Unsqueeze", [score, axis], "score_column")
    rows = onnx.add("Concat", [label, score, boxes], "rows", axis=2)
    valid = onnx.add("GreaterOrEqual", [score, onnx.scalar(0, "lowest")], "valid")
    return onnx.add("Where", [valid, rows, onnx.scalar(-1, "padding")], "detection")


def _top(onnx: Builder, values: str, count: int, name: str) -> tuple[str, str]:
    """The best along the last axis, best first, and where they are; of equal ones the first."""
    best, index = onnx.add_many("TopK", [values, onnx.numbers([count], f"{name}_count")], name, 2, axis=-1)
    return best, index


def _gather(onnx: Builder, table: str, index: str) -> str:
    """Of [B, M, D] the rows at [B, K] -> [B, K, D]."""
    index = onnx.add("Unsqueeze", [index, onnx.numbers([-1], "index_axis")], f"{index}_column")
    return onnx.add("GatherND", [table, index], f"{table}_at_{index}", batch_dims=1)


def _reshape(onnx: Builder, data: str, shape: list[int], name: str) -> str:
    return onnx.add("Reshape", [data, onnx.numbers(shape, f"{name}_shape")], name)
