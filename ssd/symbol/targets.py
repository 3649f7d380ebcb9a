"""What each anchor should say: matching to the ground truth, and which of the many negatives learn."""

from typing import NamedTuple

from omegaconf import DictConfig

from ssd.engine import mx
from ssd.symbol.multibox import MultiBox

IGNORE = -1  # class label of anchors that are neither positive nor chosen as negatives
NO_MINING = -1.0  # negative_mining_ratio with which MultiBoxTarget lets every other anchor be background


class Targets(NamedTuple):
    """loc: offsets [B, 4 N]; mask: 1 for the offsets of positives [B, 4 N]; cls: 0 background, c + 1 class c, or
    IGNORE [B, N]."""

    loc: mx.sym.Symbol
    mask: mx.sym.Symbol
    cls: mx.sym.Symbol


def build_targets(heads: MultiBox, cfg: DictConfig) -> Targets:
    """The targets of an input `label` [B, M, 6].

    Focal loss learns from every anchor. Otherwise negatives are mined: per image by MultiBoxTarget, or over the batch.
    """
    matching = cfg.matching
    every = cfg.loss.classification == "focal"
    per_image = not every and matching.mining == "image"
    loc, mask, cls = mx.sym.contrib.MultiBoxTarget(
        heads.anchors, mx.sym.Variable("label"), heads.cls,
        overlap_threshold=matching.overlap, ignore_label=IGNORE,
        negative_mining_ratio=matching.negative_ratio if per_image else NO_MINING,
        # Only the GPU kernel knows minimum_negative_samples; _with_background works everywhere, and by itself.
        minimum_negative_samples=matching.min_negatives if cfg.compat else 0,
        negative_mining_thresh=matching.negative_overlap, variances=tuple(cfg.head.variances), name="multibox_target",
    )  # fmt: skip
    if not per_image:
        cls = _all_background(cls)
        return Targets(loc, mask, cls if every else _hardest_of_batch(heads, cls, cfg))
    if not cfg.compat and matching.min_negatives > 0:
        cls = _with_background(heads, cls, cfg)
    return Targets(loc, mask, cls)


def anchor_count(heads: MultiBox, cfg: DictConfig) -> int:
    _, (shape,), _ = heads.anchors.infer_shape_partial(data=(1, 3, cfg.data_shape.height, cfg.data_shape.width))
    return int(shape[1])


def background_log_prob(heads: MultiBox) -> mx.sym.Symbol:
    """[B, N], without gradient. Its negative is a negative's cross-entropy, so that mining by either is the same."""
    scores = mx.sym.BlockGrad(heads.cls, name="negatives_scores")
    background = mx.sym.slice_axis(mx.sym.log_softmax(scores, axis=1, name="negatives_log_prob"),
                                   axis=1, begin=0, end=1, name="negatives_background")  # fmt: skip
    return mx.sym.Reshape(background, shape=(0, -1), name="negatives_background_flat")


def _with_background(heads: MultiBox, target: mx.sym.Symbol, cfg: DictConfig) -> mx.sym.Symbol:
    """Targets [B, N] in which images without a positive anchor, where MultiBoxTarget lets all anchors be ignored, have
    matching.min_negatives of background: those least believed to be it, as in the mining of the other images."""
    count = min(cfg.matching.min_negatives, anchor_count(heads, cfg))
    background = background_log_prob(heads)
    hardest = mx.sym.topk(background, axis=1, k=count, ret_typ="mask", is_ascend=True, name="negatives_hardest")
    positive = mx.sym.max(target, axis=1, keepdims=True, name="negatives_best")
    chosen = mx.sym.broadcast_mul(hardest, positive <= 0, name="negatives_chosen")
    return mx.sym.where(chosen, mx.sym.zeros_like(target), target, name="negatives_target")


def _all_background(target: mx.sym.Symbol) -> mx.sym.Symbol:
    """Without mining, images without an object would still be ignored as a whole; their anchors are background."""
    return mx.sym.relu(target, name="negatives_all")


def _hardest_of_batch(heads: MultiBox, target: mx.sym.Symbol, cfg: DictConfig) -> mx.sym.Symbol:
    """Targets [B, N] in which negative_ratio negatives per positive of all images (of a device) together learn, those
    with the largest loss, wherever they are; at least min_negatives."""
    matching = cfg.matching
    positive = mx.sym.Reshape(target > 0, shape=(-1,), name="mining_positive")
    loss = mx.sym.Reshape(-background_log_prob(heads), shape=(-1,), name="mining_loss")
    loss = mx.sym.where(positive, -mx.sym.ones_like(loss), loss, name="mining_candidates")  # losses are never negative
    order = mx.sym.argsort(loss, is_ascend=False, name="mining_order")
    rank = mx.sym.argsort(order, is_ascend=True, name="mining_rank")
    wanted = mx.sym.sum(positive, keepdims=True, name="mining_positives") * matching.negative_ratio
    chosen = mx.sym.broadcast_lesser(rank, mx.sym.maximum(wanted, matching.min_negatives), name="mining_chosen")
    learns = mx.sym.reshape_like(mx.sym.broadcast_maximum(chosen, positive), target, name="mining_learns")
    return mx.sym.where(learns, target, IGNORE * mx.sym.ones_like(target), name="mining_target")
