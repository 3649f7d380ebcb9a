"""The mAP of the original mxnet-ssd, its quirks included, to compare with numbers that were measured with it.

It differs from `evaluate_voc`, which is right, in this:
    order       Within an image and class detections are matched in the order they come, not best score first. (They
                were meant to be sorted; the network's own NMS sorts them, other sources may not.)
    threshold   IoU must exceed the threshold; the devkit lets the threshold itself pass.
    difficult   Where an image has no detection of a class, its difficult objects of that class count as missed.
    lost        Where all detections of a class in an image fall on difficult objects, the image's other objects of that
                class are not counted at all.
    classes     A class without objects but with detections enters the mean as 0.
Of equal scores the original's order is undefined (an unstable sort); here they keep the order they came in.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ssd.evaluation.matching import IGNORED, Joined, Matches, join, outcomes
from ssd.evaluation.table import Table
from ssd.evaluation.voc import summarize


def evaluate_mxnet_ssd(
    ground_truth: Sequence[np.ndarray], detections: Sequence[np.ndarray], num_classes: int, iou: float = 0.5
) -> dict[str, Any]:
    """Arguments, results and errors of `evaluate_voc`; "positives" are the objects as the original counts them."""
    return summarize(match_mxnet_ssd(join(ground_truth, detections, num_classes), iou))


def match_mxnet_ssd(joined: Joined, iou: float) -> Matches:
    """Matches by the rules of mxnet-ssd at one IoU threshold."""
    hits = np.flatnonzero((joined.object >= 0) & (joined.overlap > iou))  # in the order of the rows
    outcome = outcomes(joined.object, hits, joined.ignored)
    return joined.matched(outcome, *_count(joined, outcome))


def _count(joined: Joined, outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objects per class as mxnet-ssd counts them, int64 [C], and the classes that enter its mean, bool [C]."""
    truth, detections, num_classes = joined.truth, joined.found, joined.num_classes
    objects, groups = _per_image_and_class(truth, num_classes, np.ones(len(truth.label)))
    easy, _ = _per_image_and_class(truth, num_classes, ~joined.ignored)
    found_key = detections.image * num_classes + detections.label
    without = ~np.isin(groups, found_key)  # no detection of the class in the image
    recorded = np.isin(groups, found_key[outcome != IGNORED])
    counts = np.where(without, objects, np.where(recorded, easy, 0))
    label = groups % num_classes
    positives = np.bincount(label, counts, num_classes).astype(np.int64)
    exists = np.bincount(label[without], minlength=num_classes) > 0
    exists |= np.bincount(detections.label[outcome != IGNORED], minlength=num_classes) > 0
    return positives, exists


def _per_image_and_class(table: Table, num_classes: int, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the weights of each (image, class) that occurs, and image * num_classes + class of each."""
    groups, member = np.unique(table.image * num_classes + table.label, return_inverse=True)
    return np.bincount(member, weight, len(groups)), groups
