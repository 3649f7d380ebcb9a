"""The whole examination of a dataset, through nothing but the interface that every dataset has."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssd.data.base import Sample
from ssd.data.inspection.faults import box_faults, coverage_remarks
from ssd.data.inspection.gate import Gate, Inspection
from ssd.data.inspection.problems import ERROR, WARNING
from ssd.diagnostics.boxes import Input, remarks
from ssd.diagnostics.findings import Finding, Findings
from ssd.diagnostics.splits import Seen, lone_classes, odd_units, repeated, similar
from ssd.diagnostics.statistics import Boxes, counts, gather, join
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examination:
    """samples and boxes: per split that could be read, samples without those that cannot be used. counts: per split:
    ssd.diagnostics.statistics.counts and ssd.data.inspection.census.Census. shared: a line for every two splits that
    have images in common."""

    classes: tuple[str, ...]
    samples: dict[str, list[Sample]]
    boxes: dict[str, Boxes]
    counts: dict[str, dict]
    shared: list[str]
    findings: Findings


def examine(gate: Gate, splits: Sequence[str], target: Input, limit: int) -> Examination:
    """Reads all splits, looks at every image once. limit: findings of a kind that are kept.

    What the gate skips is a warning. Errors: UserError when no split can be read at all.
    """
    findings = Findings(limit)
    inspection = gate.inspect(splits)
    classes, found = gate.classes, inspection.splits
    for split, error in inspection.unreadable.items():
        if split == "test":  # training does without
            log.info("no test split: %s", error)
        else:
            findings.add(Finding("split", ERROR, split, "", None, str(error)))
    for split, part in found.items():
        for problem in part.problems:
            findings.add_problem(replace(problem, severity=WARNING) if gate.skips else problem, split)
        for problem in part.faults:  # training does without a test split
            findings.add_problem(replace(problem, severity=WARNING) if split == "test" else problem, split)
        for problem in coverage_remarks(part.census.coverage):
            findings.add_problem(problem, split)
    for problem in inspection.early:
        findings.add_problem(problem, "")
    _refuse_nothing(inspection, findings)
    boxes = {}
    for split, part in found.items():
        members = part.sound if gate.skips else part.samples
        sound = [sample for sample in members if not any(box_faults(sample, len(classes)))]
        boxes[split] = gather(sound)  # what every number is made of
        for sample in sound:
            for remark in remarks(sample, classes, target):
                place = (split, str(sample.path), remark.object)
                findings.add(Finding(remark.kind, WARNING, *place, remark.what))
    seen = {split: Seen([str(sample.path) for sample in part.samples], part.images) for split, part in found.items()}
    per_class = {split: np.bincount(part.labels, minlength=len(classes)) for split, part in boxes.items()}
    everything = join(list(boxes.values()))
    for finding in (*repeated(seen), *similar(seen), *lone_classes(per_class, classes),
                    *odd_units(everything.corners, everything.sizes)):  # fmt: skip
        findings.add(finding)
    numbers = {
        split: counts(part.samples, boxes[split], classes) | part.census.numbers() for split, part in found.items()
    }
    samples = {split: part.sound for split, part in found.items()}
    return Examination(classes, samples, boxes, numbers, inspection.shared(), findings)


def _refuse_nothing(inspection: Inspection, findings: Findings) -> None:
    """Errors: UserError when there is no sample at all."""
    if any(part.samples for part in inspection.splits.values()):
        return
    first = next((finding for finding in findings if finding.file), None)
    if first is None:
        raise next(iter(inspection.unreadable.values()), UserError("no split of the dataset has an image"))
    raise UserError(f"no image of any split can be used; {first.file}: {first.what}")
