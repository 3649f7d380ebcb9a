"""Losses as the ends of the train graph."""

from ssd.config.parts import FocalConfig, NetworkConfig
from ssd.mxnet_compat import mx
from ssd.symbol.multibox import MultiBox
from ssd.symbol.targets import Targets, anchor_count

CLS_LOSS = "cls_loss"  # output [B, N] of classification losses that are not what SoftmaxOutput minimizes


def class_losses(heads: MultiBox, target: mx.sym.Symbol, network: NetworkConfig) -> list[mx.sym.Symbol]:
    """cls_prob [B, C + 1, N], followed by cls_loss [B, N] where the loss is not the plain cross-entropy.

    The gradient is a sum over anchors and images; with compat, but for focal loss, divided by the anchors that learn.
    """
    wanted = network.loss
    if wanted.classification == "softmax" and not wanted.label_smoothing:
        return [_cross_entropy(heads, target, network)]
    log_prob = mx.sym.log_softmax(heads.cls, axis=1, name="cls_log_prob")
    prob = mx.sym.BlockGrad(mx.sym.exp(log_prob), name="cls_prob")
    learns = mx.sym.BlockGrad(target >= 0, name="cls_learns")
    label = mx.sym.BlockGrad(mx.sym.maximum(target, mx.sym.zeros_like(target)), name="cls_wanted")
    chosen = mx.sym.pick(log_prob, label, axis=1, name="cls_chosen")
    if wanted.classification == "focal":
        loss = _focal(chosen, label, wanted.focal)
    else:
        loss = _smoothed(chosen, log_prob, wanted.label_smoothing)
    # where(), since ignored anchors may hold anything and inf * 0 is not 0
    loss = mx.sym.where(learns, loss, mx.sym.zeros_like(loss), name="cls_loss_")
    return [prob, mx.sym.MakeLoss(loss, normalization=_normalization(network), name=CLS_LOSS)]


def box_loss(heads: MultiBox, targets: Targets, network: NetworkConfig) -> mx.sym.Symbol:
    """loc_loss [B, 4 N]: smooth L1 (Girshick 2015, eq. 3) of positives, 0 elsewhere."""
    difference = mx.sym.elemwise_sub(heads.loc, targets.loc, name="loc_difference")
    masked = mx.sym.elemwise_mul(targets.mask, difference, name="loc_masked")
    loss = mx.sym.smooth_l1(masked, scalar=1.0, name="loc_loss_")
    return mx.sym.MakeLoss(loss, grad_scale=1.0, normalization=_normalization(network), name="loc_loss")


def divides_itself(compat: str | None, classification: str) -> bool:
    """Whether the graph divides its gradients, per device, as the original's does; else they are sums."""
    return compat is not None and classification == "softmax"


def _cross_entropy(heads: MultiBox, target: mx.sym.Symbol, network: NetworkConfig) -> mx.sym.Symbol:
    # Without normalization MXNet still divides by the N anchors of an image; the scale undoes it.
    scale = 1.0 if _is_divided(network) else float(anchor_count(heads, network))
    return mx.sym.SoftmaxOutput(
        heads.cls, target, multi_output=True, use_ignore=True, ignore_label=-1, grad_scale=scale,
        normalization=_normalization(network), name="cls_prob",
    )  # fmt: skip


def _is_divided(network: NetworkConfig) -> bool:
    return divides_itself(network.compat, network.loss.classification)


def _normalization(network: NetworkConfig) -> str:
    return "valid" if _is_divided(network) else "null"


def _focal(chosen: mx.sym.Symbol, label: mx.sym.Symbol, focal: FocalConfig) -> mx.sym.Symbol:
    """-a (1 - p)^gamma log p of the right class (Lin et al. 2017, eq. 5), with the softmax's p; a is alpha for
    objects and 1 - alpha for background."""
    weight = (label > 0) * (2 * focal.alpha - 1) + (1 - focal.alpha)
    # (1 - p) by expm1 of log p: exact where p is nearly 1, and never negative.
    doubt = mx.sym.maximum(-mx.sym.expm1(chosen), 1e-12)
    return -weight * doubt**focal.gamma * chosen


def _smoothed(chosen: mx.sym.Symbol, log_prob: mx.sym.Symbol, share: float) -> mx.sym.Symbol:
    """Cross-entropy with `share` of the label spread evenly over all classes (Szegedy et al. 2016, section 7)."""
    return -(1 - share) * chosen - share * mx.sym.mean(log_prob, axis=1)
