"""Axis-aligned boxes on NumPy arrays: their geometry, and from the output of a network to a list of objects.

Boxes are float arrays [..., 4] of (xmin, ymin, xmax, ymax), continuous coordinates, any unit.

Width is xmax - xmin, without the +1 of inclusive pixels. A box with no area (xmax <= xmin or ymax <= ymin)
overlaps nothing: its IoU is 0, never nan.

Every class above the score threshold is kept at every anchor (one anchor may hold several classes), then per class the
best `topk` go through non-maximum suppression, then the best `keep` of the image remain. This is what the SSD paper's
implementation does; MXNet's MultiBoxDetection keeps the best class of an anchor only. Limits are exclusive: a score
that equals `score` goes, an IoU that equals `nms` stays (MultiBoxDetection decides both the other way).

Suppression removes the weaker of two boxes that overlap, or, with soft_nms, lowers its score (Bodla et al., "Soft-NMS",
ICCV 2017) by how much they overlap:
    linear    score x (1 - IoU) where IoU exceeds `nms`
    gaussian  score x exp(-IoU^2 / sigma), whatever `nms` is
"""

from dataclasses import dataclass

import numpy as np

from ssd.utils.errors import UserError

SOFT_NMS = ("linear", "gaussian")
CHUNK = 256  # candidates compared with one another at a time: IoU matrices of 64 K numbers stay in the cache


def area(boxes: np.ndarray) -> np.ndarray:
    """Area of boxes [..., 4] -> [...]; an inverted box has area 0."""
    sides = np.maximum(boxes[..., 2:4] - boxes[..., 0:2], 0)
    return sides[..., 0] * sides[..., 1]


def iou_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes that broadcast against each other, [..., 4] and [..., 4] -> [...]."""
    width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0])
    height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1])
    overlap = np.maximum(width, 0) * np.maximum(height, 0)
    union = area(first) + area(second) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def iou_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of `first` [N, 4] with every box of `second` [M, 4] -> [N, M]."""
    return iou_pairs(first[:, None, :], second[None, :, :])


@dataclass(frozen=True)
class DecodeParams:
    """As a checkpoint's spec has it; ssd.config.parts.DETECTION_KEYS has the keys of the configuration.

    score: candidates must exceed it. nms: of two boxes of a class that overlap by more, the weaker goes.
    topk: most candidates per class before suppression. keep: most detections per image.
    soft_nms: None, "linear" or "gaussian"; sigma: of the latter. flip: the mirrored image is asked too (`Detector`)."""

    score: float
    nms: float
    topk: int
    keep: int
    soft_nms: str | None
    sigma: float
    flip: bool

    def __post_init__(self) -> None:
        """Raises UserError naming the value that makes no sense."""
        if not 0 <= self.score < 1:
            raise UserError(f"detection.score_threshold={self.score}: expected at least 0 and less than 1")
        if not 0 <= self.nms <= 1:
            raise UserError(f"detection.nms_threshold={self.nms}: expected an IoU from 0 to 1 (1 = no suppression)")
        for key, count in (("pre_nms_topk", self.topk), ("max_detections", self.keep)):
            if count < 1:
                raise UserError(f"detection.{key}={count}: expected 1 or more")
        if self.soft_nms not in (None, *SOFT_NMS):
            raise UserError(f"detection.soft_nms={self.soft_nms}: expected null, {' or '.join(SOFT_NMS)}")
        if self.sigma <= 0:
            raise UserError(f"detection.sigma={self.sigma}: expected more than 0")


def decode(cls_prob: np.ndarray, boxes: np.ndarray, params: DecodeParams) -> list[np.ndarray]:
    """Detections of a batch.

    cls_prob: float32 [B, C+1, N], class probabilities per anchor, background first. boxes: float32 [B, N, 4], corners
    (xmin, ymin, xmax, ymax) normalized to 0..1. Returns per image float32 [K, 6], rows (class, score, xmin, ymin, xmax,
    ymax), class 0-based without background, same coordinates, best score first; equal scores by class, then by anchor.
    """
    return [_decode_image(prob[1:], corners, params) for prob, corners in zip(cls_prob, boxes, strict=True)]


def rows_to_detections(output: np.ndarray) -> list[np.ndarray]:
    """The same list from MultiBoxDetection's output [B, N, 6], rows (class or -1 for none, score, corners)."""
    found = [rows[rows[:, 0] >= 0] for rows in output]
    return [rows[np.argsort(-rows[:, 1], kind="stable")].astype(np.float32) for rows in found]


def _decode_image(prob: np.ndarray, corners: np.ndarray, params: DecodeParams) -> np.ndarray:
    label, anchor = np.nonzero(_candidates(prob, params))
    score = prob[label, anchor]
    order = np.argsort(-score, kind="stable")
    order = order[_rank_within(label[order]) < params.topk]
    rows = np.empty((len(order), 6), np.float32)
    rows[:, 0], rows[:, 1], rows[:, 2:] = label[order], score[order], corners[anchor[order]]
    if params.soft_nms:
        return _soften(rows[np.argsort(rows[:, 0], kind="stable")], params)
    return _suppress(rows, params.nms, params.keep)


def _candidates(prob: np.ndarray, params: DecodeParams) -> np.ndarray:
    """Mask [C, N] of what exceeds the score and may be among the `topk` of its class; ties at the end stay in."""
    mask = prob > params.score
    for label in np.flatnonzero(np.count_nonzero(mask, axis=1) > params.topk):
        mask[label] &= prob[label] >= np.partition(prob[label], -params.topk)[-params.topk]
    return mask


def _rank_within(label: np.ndarray) -> np.ndarray:
    """Position of each element among those of equal label: [7, 3, 7] -> [0, 0, 1]."""
    order = np.argsort(label, kind="stable")
    ordered = label[order]
    rank = np.empty(len(label), np.int64)
    rank[order] = np.arange(len(label)) - np.searchsorted(ordered, ordered)
    return rank


def _suppress(rows: np.ndarray, nms: float, keep: int) -> np.ndarray:
    """Greedy per-class non-maximum suppression of rows sorted best first; stops as soon as `keep` are found.

    Only better rows can suppress a row, so a chunk is final once it was compared with what earlier chunks kept and
    with itself; the many weak candidates of a badly trained network are never looked at.
    """
    kept = rows[:0]
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        chunk = chunk[~_overlaps(kept, chunk, nms).any(axis=0)]
        chunk = chunk[_greedy(np.triu(_overlaps(chunk, chunk, nms), 1))]
        kept = np.concatenate([kept, chunk])
        if len(kept) >= keep:
            break
    return kept[:keep]


def _overlaps(first: np.ndarray, second: np.ndarray, nms: float) -> np.ndarray:
    """Mask [N, M]: same class and IoU above the limit."""
    return (first[:, None, 0] == second[None, :, 0]) & (iou_matrix(first[:, 2:], second[:, 2:]) > nms)


def _greedy(beats: np.ndarray) -> np.ndarray:
    """Mask [N] of the survivors, given beats[i, j] (i < j): row i, if it survives itself, suppresses row j.

    Repeats "survives whoever is beaten by no survivor" until nothing changes. Each round settles at least one more row
    for good, from the best down, so the result is the greedy one; in practice three or four rounds are enough.
    """
    alive = np.ones(len(beats), bool)
    while True:
        now = ~beats[alive].any(axis=0)
        if (now == alive).all():
            return alive
        alive = now


def _soften(rows: np.ndarray, params: DecodeParams) -> np.ndarray:
    """Soft-NMS of rows grouped by class; a row whose score falls to params.score is dropped.

    The best row of all classes is final, for scores only fall and only rows of its own class change; so one pass over
    the best `keep` serves all classes, and gives them best first.
    """
    rows = rows.copy()
    starts = np.searchsorted(rows[:, 0], rows[:, 0])
    ends = np.searchsorted(rows[:, 0], rows[:, 0], side="right")
    left = rows[:, 1].copy()
    final: list[int] = []
    while len(final) < params.keep and len(left):
        best = int(left.argmax())
        if left[best] <= params.score:
            break
        final.append(best)
        rows[best, 1] = left[best]
        same = slice(starts[best], ends[best])
        overlap = iou_pairs(rows[best, 2:], rows[same, 2:])
        if params.soft_nms == "linear":
            left[same] *= np.where(overlap > params.nms, 1 - overlap, 1)
        else:
            left[same] *= np.exp(-(overlap**2) / params.sigma)
        left[best] = -1
    return rows[final]
