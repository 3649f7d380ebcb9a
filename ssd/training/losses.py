"""Training losses read off the graph's outputs on the device: four numbers a step reach the host, no probabilities."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssd.mxnet_compat import mx

TINY = 1e-20  # a probability of exactly zero counts as this


@dataclass(frozen=True)
class StepLosses:
    """Sums over one step's batch, all devices together; add them to get an epoch's.

    cross_entropy: over the anchors that learn (positives and mined negatives); smooth_l1: over the four offsets of
    the positives (SSD paper, eq. 1-3). divisor: what both are divided by to get the loss. gradients_finite: whether
    the step's gradients are.
    """

    cross_entropy_sum: float = 0.0
    anchors: float = 0.0
    smooth_l1_sum: float = 0.0
    positives: float = 0.0
    divisor: float = 0.0
    gradients_finite: bool = True

    def __add__(self, other: "StepLosses") -> "StepLosses":
        return StepLosses(
            self.cross_entropy_sum + other.cross_entropy_sum,
            self.anchors + other.anchors,
            self.smooth_l1_sum + other.smooth_l1_sum,
            self.positives + other.positives,
            self.divisor + other.divisor,
            self.gradients_finite and other.gradients_finite,
        )

    @property
    def finite(self) -> bool:
        """Whether the step teaches something."""
        return self.loss_finite and self.gradients_finite

    @property
    def loss_finite(self) -> bool:
        return bool(np.isfinite(self.cross_entropy_sum) and np.isfinite(self.smooth_l1_sum))

    @property
    def cross_entropy(self) -> float:
        """Mean over the anchors that learn."""
        return self.cross_entropy_sum / max(self.anchors, 1.0)

    @property
    def smooth_l1(self) -> float:
        """Sum over the four offsets, mean over the positives."""
        return self.smooth_l1_sum / max(self.positives, 1.0)

    @property
    def loss(self) -> float:
        """What is minimized."""
        return (self.cross_entropy_sum + self.smooth_l1_sum) / max(self.divisor, 1.0)


def loss_divisor(positives: float, anchors: float, negative_ratio: float) -> float:
    """The positives of a batch; more when background of images without objects learns beside them.

    Each positive brings at most negative_ratio negatives, so `anchors` that learn weigh as many positives as they are
    times 1 + negative_ratio. Of a batch without any positive the loss is then still a mean, not a sum.
    """
    return max(positives, anchors / (1 + negative_ratio) if negative_ratio > 0 else 0.0, 1.0)


def read_losses(parts: Iterable[list[Any]], negative_ratio: float) -> StepLosses:
    """Losses of a batch, given the outputs for each part of it, by device and pass: [cls_prob [B, C+1, N], loc_loss
    [B, 4N], cls_label [B, N]], and cls_loss [B, N] where that is not the cross-entropy.

    cls_label: -1 ignored, 0 background, class + 1 otherwise. What is needed of a part is queued before the next one is
    asked for, which may use the same arrays. Waits for the forward passes, not for the last backward one.
    """
    queued = []
    for cls_prob, loc_loss, cls_label, *cls_loss in parts:
        learns = cls_label >= 0
        entropy = cls_loss[0] if cls_loss else _cross_entropy(cls_prob, cls_label)
        queued.append(mx.nd.concat(entropy.sum(), learns.sum(), loc_loss.sum(), (cls_label > 0).sum(), dim=0))
    entropy, anchors, smooth_l1, positives = sum(numbers.asnumpy().astype(np.float64) for numbers in queued).tolist()
    return StepLosses(entropy, anchors, smooth_l1, positives, loss_divisor(positives, anchors, negative_ratio))


def _cross_entropy(cls_prob: Any, cls_label: Any) -> Any:
    """[B, N]; of ignored anchors 0."""
    chosen = mx.nd.pick(cls_prob, mx.nd.maximum(cls_label, 0), axis=1)
    # where(), since ignored anchors may hold anything and inf * 0 is not 0
    return mx.nd.where(cls_label >= 0, -mx.nd.log(mx.nd.maximum(chosen, TINY)), mx.nd.zeros_like(chosen))
