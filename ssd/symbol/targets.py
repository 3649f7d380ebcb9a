"""What each anchor should say: matching to the ground truth, and which of the many negatives learn."""

from typing import NamedTuple

from ssd.config.parts import NetworkConfig
from ssd.mxnet_compat import mx
from ssd.symbol.multibox import MultiBox

IGNORE = -1  # class label of anchors that are neither positive nor chosen as negatives
NO_MINING = -1.0  # negative_mining_ratio with which MultiBoxTarget lets every other anchor be background


class Targets(NamedTuple):
    """loc: offsets [B, 4 N]; mask: 1 for the offsets of positives [B, 4 N]; cls: 0 background, c + 1 class c, or
    IGNORE [B, N]."""

    loc: mx.sym.Symbol
    mask: mx.sym.Symbol
    cls: mx.sym.Symbol


def build_targets(heads: MultiBox, network: NetworkConfig) -> Targets:
    """The targets of an input `label` [B, M, 6].

    Focal loss learns from every anchor. Otherwise negatives are mined: per image by MultiBoxTarget, or over the batch.
    Whichever it is, anchors that are not positive are ignored from an IoU of matching.negative_overlap with a box on.
    """
    matching = network.matching
    label = mx.sym.Variable("label")
    every = network.loss.classification == "focal"
    band = matching.negative_overlap < matching.overlap
    # MultiBoxTarget's mining stops with an error where a band leaves fewer negatives than it wants.
    its_mining = not every and matching.mining == "image" and not band
    loc, mask, cls = mx.sym.contrib.MultiBoxTarget(
        heads.anchors, label, heads.cls,
        overlap_threshold=matching.overlap, ignore_label=IGNORE,
        negative_mining_ratio=matching.negative_ratio if its_mining else NO_MINING,
        # Only the GPU kernel knows minimum_negative_samples; _with_background works everywhere, and by itself.
        minimum_negative_samples=matching.min_negatives if network.compat else 0,
        negative_mining_thresh=matching.negative_overlap, variances=network.head.variances, name="multibox_target",
    )  # fmt: skip
    if its_mining:
        background = not network.compat and matching.min_negatives > 0
        return Targets(loc, mask, _with_background(heads, cls, network) if background else cls)
    cls = _all_background(cls)
    if band:
        cls = _without_near_misses(cls, _best_overlap(heads, label), matching.negative_overlap)
    return Targets(loc, mask, cls if every else _hardest(heads, cls, network))


def anchor_count(heads: MultiBox, network: NetworkConfig) -> int:
    _, (shape,), _ = heads.anchors.infer_shape_partial(data=(1, 3, *network.input.shape))
    return int(shape[1])


def background_log_prob(heads: MultiBox) -> mx.sym.Symbol:
    """[B, N], without gradient. Its negative is a negative's cross-entropy, so that mining by either is the same."""
    scores = mx.sym.BlockGrad(heads.cls, name="negatives_scores")
    background = mx.sym.slice_axis(mx.sym.log_softmax(scores, axis=1, name="negatives_log_prob"),
                                   axis=1, begin=0, end=1, name="negatives_background")  # fmt: skip
    return mx.sym.Reshape(background, shape=(0, -1), name="negatives_background_flat")


def _with_background(heads: MultiBox, target: mx.sym.Symbol, network: NetworkConfig) -> mx.sym.Symbol:
    """Targets [B, N] in which images without a positive anchor, where MultiBoxTarget lets all anchors be ignored, have
    matching.min_negatives of background: those least believed to be it, as in the mining of the other images."""
    count = min(network.matching.min_negatives, anchor_count(heads, network))
    background = background_log_prob(heads)
    hardest = mx.sym.topk(background, axis=1, k=count, ret_typ="mask", is_ascend=True, name="negatives_hardest")
    positive = mx.sym.max(target, axis=1, keepdims=True, name="negatives_best")
    chosen = mx.sym.broadcast_mul(hardest, positive <= 0, name="negatives_chosen")
    return mx.sym.where(chosen, mx.sym.zeros_like(target), target, name="negatives_target")


def _all_background(target: mx.sym.Symbol) -> mx.sym.Symbol:
    """Without mining, images without an object would still be ignored as a whole; their anchors are background."""
    return mx.sym.relu(target, name="negatives_all")


def _best_overlap(heads: MultiBox, label: mx.sym.Symbol) -> mx.sym.Symbol:
    """[B, N], without gradient: highest IoU of each anchor with a box of `label` [B, M, 6]; padding rows, all -1, have
    none."""
    anchors = mx.sym.Reshape(mx.sym.BlockGrad(heads.anchors), shape=(-1, 4), name="overlap_anchors")
    boxes = mx.sym.slice_axis(mx.sym.BlockGrad(label), axis=2, begin=1, end=5, name="overlap_boxes")
    overlaps = mx.sym.contrib.box_iou(anchors, boxes, format="corner", name="overlap_iou")  # [N, B, M]
    return mx.sym.transpose(mx.sym.max(overlaps, axis=2), name="overlap_best")


def _without_near_misses(target: mx.sym.Symbol, overlap: mx.sym.Symbol, lowest: float) -> mx.sym.Symbol:
    """Targets [B, N] in which background anchors are ignored from an IoU of `lowest` on."""
    near = mx.sym.elemwise_mul(target == 0, overlap >= lowest, name="overlap_near")
    return mx.sym.where(near, IGNORE * mx.sym.ones_like(target), target, name="overlap_target")


def _hardest(heads: MultiBox, target: mx.sym.Symbol, network: NetworkConfig) -> mx.sym.Symbol:
    """Targets [B, N] in which negative_ratio negatives per positive learn, those with the largest loss: of each image,
    where those without a positive have min_negatives; or of all images (of a device) together, wherever they are, at
    least min_negatives."""
    matching = network.matching
    per_image = matching.mining == "image"
    rows = (0, -1) if per_image else (1, -1)  # that are ranked, each by itself
    positive = mx.sym.Reshape(target > 0, shape=rows, name="mining_positive")
    background = mx.sym.Reshape(target == 0, shape=rows, name="mining_background")
    loss = mx.sym.Reshape(-background_log_prob(heads), shape=rows, name="mining_loss")
    # Losses are never negative. Ignored anchors that are chosen for want of others stay ignored.
    loss = mx.sym.where(background, loss, -mx.sym.ones_like(loss), name="mining_candidates")
    order = mx.sym.argsort(loss, axis=1, is_ascend=False, name="mining_order")
    rank = mx.sym.argsort(order, axis=1, is_ascend=True, name="mining_rank")
    positives = mx.sym.sum(positive, axis=1, keepdims=True, name="mining_positives")
    if per_image:  # where a ratio of 0 is MultiBoxTarget's for all of them
        wanted = positives * (matching.negative_ratio or anchor_count(heads, network))
        wanted = wanted + (positives == 0) * matching.min_negatives
    else:
        wanted = mx.sym.maximum(positives * matching.negative_ratio, matching.min_negatives)
    chosen = mx.sym.broadcast_lesser(rank, wanted, name="mining_chosen")
    learns = mx.sym.reshape_like(mx.sym.broadcast_maximum(chosen, positive), target, name="mining_learns")
    return mx.sym.where(learns, target, IGNORE * mx.sym.ones_like(target), name="mining_target")
