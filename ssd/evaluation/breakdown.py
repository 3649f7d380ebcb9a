"""What each kind of mistake costs, in mAP: the error types of TIDE (Bolya et al., "TIDE: A General Toolbox for
Identifying Object Detection Errors", ECCV 2020), implemented from that description.

A false positive is of the first kind that fits, by its highest IoU with objects of its own class ("own") and of the
others ("other"); t_f is the IoU from which an object is found, t_b = 0.1:
    localisation  t_b <= own < t_f            right class, box too far off
    class         other >= t_f                right box, wrong class
    duplicate     own >= t_f                  the object was found already, by a better score
    background    own < t_b and other < t_b   nothing there
    both          the rest                    wrong class and box too far off
and an object is
    missed        when it was neither found nor is the target of a class or localisation error.

The cost of a kind is the mAP (area) once all mistakes of that kind, and no others, are repaired, minus that before:
    class, localisation           the detection gets the class or box of the object; if several then claim one object
                                  only the best score stays
    duplicate, background, both   the detection is removed
    missed                        the object no longer counts; a class left without objects leaves the mean
The costs do not add up to 1 - mAP, since repairing one kind changes what the next one is worth.
Difficult objects and crowds take no part: detections on them are neither right nor wrong, and no mistake aims at them.
"""

from dataclasses import dataclass, replace

import numpy as np

from ssd.evaluation.matching import (
    FALSE_POSITIVE,
    IGNORED,
    TRUE_POSITIVE,
    Joined,
    Matches,
    most_overlapping,
)
from ssd.evaluation.voc import summarize

KINDS = ("class", "localisation", "both", "duplicate", "background", "missed")
BACKGROUND_IOU = 0.1


@dataclass(frozen=True)
class Mistakes:
    """count: how many; cost: mAP (area, 0..1) that repairing all of them would gain (nan without any object)."""

    count: int
    cost: float


def error_breakdown(joined: Joined, iou: float = 0.5) -> dict[str, Mistakes]:
    """Mistakes of each of KINDS. iou is t_f, more than 0.1."""
    truth, num_classes = joined.truth, joined.num_classes
    matches = joined.matches(iou)
    counted = np.flatnonzero(~joined.ignored)
    kind, target = _classify(joined, matches, iou)

    hit = matches.outcome == TRUE_POSITIVE
    covered = np.isin(counted, matches.object[hit]) | np.isin(counted, target[np.isin(kind, _AIMED)])
    missed = np.bincount(truth.label[counted[~covered]], minlength=num_classes)
    now = summarize(matches)["map_area"]
    found_all = {"missed": Mistakes(int(missed.sum()), _without(matches, missed) - now)}
    for number, name in enumerate(KINDS[:-1]):
        wrong = kind == number
        repaired = _aim(matches, wrong, target, truth.label) if number in _AIMED else _drop(matches, wrong)
        found_all[name] = Mistakes(int(wrong.sum()), repaired - now)
    return {name: found_all[name] for name in KINDS}


_AIMED = (KINDS.index("class"), KINDS.index("localisation"))  # repaired by turning them into hits


def _classify(joined: Joined, matches: Matches, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Index into KINDS of each detection of the matches (-1: no mistake), and the row of the object it aims at (-1:
    none)."""
    false = np.flatnonzero(matches.outcome == FALSE_POSITIVE)
    own_object, own = matches.object[false], matches.overlap[false]
    # Only where it is an object that takes no part another one is the closest of those that do.
    again = np.flatnonzero(np.isin(own_object, np.flatnonzero(joined.ignored)))
    own_object[again], own[again] = _closest(joined, matches.row[false[again]])
    other_object, other = _closest(joined, matches.row[false], other_class=True)
    rules = [
        ("localisation", (own >= BACKGROUND_IOU) & (own < iou), own_object),
        ("class", other >= iou, other_object),
        ("duplicate", own >= iou, own_object),
        ("background", np.maximum(own, other) < BACKGROUND_IOU, None),
        ("both", np.ones(len(own), bool), None),
    ]
    kind, target = np.full(len(own), -1), np.full(len(own), -1)
    for name, fits, aims in rules:
        chosen = (kind < 0) & fits
        kind[chosen] = KINDS.index(name)
        if aims is not None:
            target[chosen] = aims[chosen]
    every_kind, every_target = (np.full(len(matches.row), -1) for _ in range(2))
    every_kind[false], every_target[false] = kind, target
    return every_kind, every_target


def _closest(joined: Joined, rows: np.ndarray, other_class: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """`most_overlapping` of these detections and the objects that take part."""
    counted = np.flatnonzero(~joined.ignored)
    chosen, overlap = most_overlapping(joined.truth.take(counted), joined.found.take(rows), other_class)
    return np.where(chosen >= 0, counted[chosen] if len(counted) else -1, -1), overlap


def _drop(matches: Matches, wrong: np.ndarray) -> float:
    return _mean_ap(matches, matches.label, np.where(wrong, IGNORED, matches.outcome), matches.positives)


def _aim(matches: Matches, wrong: np.ndarray, target: np.ndarray, classes: np.ndarray) -> float:
    """With the wrong detections on their targets; per object the best score of all that claim it is kept."""
    hit = matches.outcome == TRUE_POSITIVE
    claims = np.flatnonzero(hit | wrong)
    claims = claims[np.argsort(-matches.score[claims], kind="stable")]
    aim = np.where(wrong, target, matches.object)
    _, best = np.unique(aim[claims], return_index=True)
    outcome = matches.outcome.copy()
    outcome[claims] = IGNORED
    outcome[claims[best]] = TRUE_POSITIVE
    label = matches.label.copy()
    label[wrong] = classes[target[wrong]]
    return _mean_ap(matches, label, outcome, matches.positives)


def _without(matches: Matches, missed: np.ndarray) -> float:
    return _mean_ap(matches, matches.label, matches.outcome, matches.positives - missed)


def _mean_ap(matches: Matches, label: np.ndarray, outcome: np.ndarray, positives: np.ndarray) -> float:
    changed = replace(matches, label=label, outcome=outcome, positives=positives, exists=positives > 0)
    return float(summarize(changed.regrouped())["map_area"])
