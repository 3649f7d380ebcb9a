"""The whole examination of a data set, through nothing but the interface that every data set has."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ssd.data.dataset import Dataset, Sample
from ssd.data.problems import ERROR, collecting
from ssd.doctor.boxes import Input, remarks
from ssd.doctor.findings import Finding, Findings
from ssd.doctor.pictures import look_at_all, size_problem
from ssd.doctor.splits import Seen, lone_classes, odd_units, repeated, similar
from ssd.doctor.statistics import Boxes, counts, gather, join
from ssd.errors import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Examination:
    """samples and boxes: per split that could be read. counts: per split, see ssd.doctor.statistics.counts."""

    classes: tuple[str, ...]
    samples: dict[str, list[Sample]]
    boxes: dict[str, Boxes]
    counts: dict[str, dict]
    findings: Findings


def examine(dataset: Dataset, splits: Sequence[str], target: Input, limit: int) -> Examination:
    """Reads all splits, looks at every picture once. limit: findings of a kind that are kept.

    Errors: UserError when no split can be read at all.
    """
    findings = Findings(limit)
    classes, samples = _read(dataset, splits, findings)
    boxes = {}
    for split, members in samples.items():
        sound = []  # what every number is made of
        for sample in members:
            told = list(remarks(sample, classes, target))
            for remark in told:
                place = (split, str(sample.path), remark.object)
                findings.add(Finding(remark.kind, remark.severity, *place, remark.what))
            if all(remark.severity != ERROR for remark in told):
                sound.append(sample)
        boxes[split] = gather(sound)
    _look(samples, findings)
    numbers = {split: counts(members, boxes[split], classes) for split, members in samples.items()}
    per_class = {split: np.bincount(part.labels, minlength=len(classes)) for split, part in boxes.items()}
    everything = join(list(boxes.values()))
    for finding in (*lone_classes(per_class, classes), *odd_units(everything.corners, everything.sizes)):
        findings.add(finding)
    return Examination(classes, samples, boxes, numbers, findings)


def _read(
    dataset: Dataset, splits: Sequence[str], findings: Findings
) -> tuple[tuple[str, ...], dict[str, list[Sample]]]:
    with collecting() as early:
        classes = dataset.classes
    samples: dict[str, list[Sample]] = {}
    refused = None
    for split in splits:
        with collecting() as problems:
            try:
                samples[split] = dataset.split(split)
            except UserError as error:
                refused = refused or error
                if split == "test":  # training does without
                    log.info("no test split: %s", error)
                else:
                    findings.add(Finding("split", ERROR, split, "", None, str(error)))
        for problem in problems:
            findings.add_problem(problem, split)
    for problem in early:  # told again with its split, if it belongs to one
        findings.add_problem(problem, "")
    if not any(samples.values()):
        first = next((finding for finding in findings if finding.file), None)
        if first is None:
            raise refused or UserError("no split of the data set has a picture")
        raise UserError(f"no picture of any split can be used; {first.file}: {first.what}")
    return classes, samples


def _look(samples: dict[str, list[Sample]], findings: Findings) -> None:
    """Every file once, also when splits share it."""
    unique = {(sample.id, str(sample.path)): sample for members in samples.values() for sample in members}
    pictures = progress(look_at_all(list(unique.values())), "pictures", len(unique))
    known = dict(zip(unique, pictures, strict=True))
    seen = {}
    for split, members in samples.items():
        files = [str(sample.path) for sample in members]
        seen[split] = Seen(files, [known[sample.id, str(sample.path)] for sample in members])
        for sample, picture in zip(members, seen[split].pictures, strict=True):
            if picture.size is None:
                findings.add(Finding("unreadable_image", ERROR, split, str(sample.path), None, str(picture.error)))
            elif what := size_problem(sample, picture.size):
                findings.add(Finding("image_size", ERROR, split, str(sample.path), None, what))
    for finding in (*repeated(seen), *similar(seen)):
        findings.add(finding)


def progress(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The items, with a bar on stderr where that is a terminal."""
    terminal = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)
