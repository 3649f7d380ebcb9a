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

from ssd.evaluation.matching import (
    IGNORED,
    Matches,
    is_ignored,
    most_overlapping,
    outcomes,
)
from ssd.evaluation.table import Table, check_same_images, detection_table, ground_truth_table
from ssd.evaluation.voc import summarise


def evaluate_mxnet_ssd(
    ground_truth: Sequence[np.ndarray], detections: Sequence[np.ndarray], num_classes: int, iou: float = 0.5
) -> dict[str, Any]:
    """Arguments, results and errors of `evaluate_voc`; "positives" are the objects as the original counts them."""
    check_same_images(ground_truth, detections)
    truth = ground_truth_table(ground_truth, num_classes)
    return summarise(match_mxnet_ssd(truth, detection_table(detections, num_classes), num_classes, iou))


def match_mxnet_ssd(ground_truth: Table, detections: Table, num_classes: int, iou: float) -> Matches:
    """Matches by the original's rules; arguments as in `match_voc`."""
    chosen, overlap = most_overlapping(ground_truth, detections)
    hits = np.flatnonzero((chosen >= 0) & (overlap > iou))  # in the order of the rows
    outcome = outcomes(chosen, hits, is_ignored(ground_truth))
    positives, exists = _count(ground_truth, detections, outcome, num_classes)
    rows = np.arange(len(outcome))
    score = detections.values[:, 0]
    return Matches(detections.label, score, outcome, rows, chosen, overlap, positives, exists).regrouped()


def _count(
    ground_truth: Table, detections: Table, outcome: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Objects per class as the original counts them, int64 [C], and the classes that enter its mean, bool [C]."""
    objects, groups = _per_image_and_class(ground_truth, num_classes, np.ones(len(ground_truth.label)))
    easy, _ = _per_image_and_class(ground_truth, num_classes, ~is_ignored(ground_truth))
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
