"""The one gate: every sample that a job trains on, measures on or packs comes through it.

    gate = Gate(lambda: make_dataset(cfg.dataset), "refuse")
    gate.inspect(["train", "val"])        # everything that is wrong, nothing refused
    gate.admit(["train", "val"], folder)  # the samples; or the first problem as an error, all of them in a file

job=check reports what inspect() finds; every other job takes admit(). So what one calls fatal the others refuse, in the
same messages, before they begin.
"""

import io
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssd.data.base import Dataset, Sample
from ssd.data.coverage import Coverage
from ssd.data.inspection.census import Census, shared_line
from ssd.data.inspection.checks import MAX_LINES
from ssd.data.inspection.faults import box_faults, double_faults, image_faults, shared_images, split_faults
from ssd.data.inspection.looking import ImageFacts, Known, key_of, look_at_all, size_problem
from ssd.data.inspection.problems import ERROR, SKIP, WARNING, Problem, collecting
from ssd.utils.atomic_files import write_atomically
from ssd.utils.csv_cells import CsvWriter
from ssd.utils.errors import UserError
from ssd.utils.progress import progress

LISTING = "problems.csv"
ADVICE = "dataset.on_error=skip leaves such images out"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """One split as it was found.

    samples: all that could be read; sound: those of them without a problem. problems: of its files and samples, also
    of those that could not be read. faults: of the split as a whole; no sample can be left out to mend them.
    """

    samples: list[Sample]
    sound: list[Sample]
    images: list[ImageFacts]
    problems: list[Problem]
    faults: list[Problem]
    census: Census

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == ERROR]


@dataclass(frozen=True)
class Inspection:
    """splits: as far as they could be read. unreadable: the error of the others. early: problems of reading the class
    names, or a split that could not be read, that none of the splits has."""

    splits: dict[str, Found]
    unreadable: dict[str, UserError]
    early: list[Problem]

    def shared(self) -> list[str]:
        """A line for every two splits that have images in common."""
        contents = {
            name: {image.digest or str(sample.path) for sample, image in zip(found.samples, found.images, strict=True)}
            for name, found in self.splits.items()
        }
        return [
            shared_line(name, other, common, (len(contents[name]), len(contents[other])))
            for name, other, common in shared_images({name: list(part) for name, part in contents.items()})
        ]


@dataclass(frozen=True)
class Admitted:
    """samples: of every split, all sound. skipped: split -> problems of what was left out of it."""

    samples: dict[str, list[Sample]]
    skipped: dict[str, list[Problem]]


class Gate:
    """make: gives the dataset. classes: its class names, also where an annotation cannot be read.

    on_error: what becomes of images that cannot be used: "refuse" or "skip". known: images that need not be looked at
    again. Errors: UserError for class names that cannot be found.
    """

    def __init__(self, make: Callable[[], Dataset], on_error: str, known: Known | None = None) -> None:
        self.skips = on_error == SKIP
        self._known = known or Known(None)
        with collecting(self.skips) as self._early:
            self.dataset = make()
            self.classes = tuple(self.dataset.classes)

    def inspect(self, splits: Sequence[str]) -> Inspection:
        """Reads the splits and looks at every image once, in threads; at those that are known not again."""
        read: dict[str, tuple[list[Sample], Coverage, list[Problem]]] = {}
        unreadable = {}
        early = list(self._early)
        for split in splits:
            with collecting(self.skips) as problems:
                try:
                    samples = self.dataset.split(split)
                    read[split] = samples, self.dataset.coverage(split), problems
                except UserError as error:
                    unreadable[split] = error
                    early += problems
        images = _look({split: samples for split, (samples, _, _) in read.items()}, self._known)
        found = {}
        for split, (samples, coverage, problems) in read.items():
            seen = [images[_place(sample)] for sample in samples]
            sound, more = _sorted_out(samples, seen, len(self.classes))
            faults = list(split_faults(split, sound if self.skips else samples, coverage))
            census = Census.of(samples, [image.digest for image in seen], coverage)
            found[split] = Found(samples, sound, seen, problems + more, faults, census)
        listed = {problem for part in found.values() for problem in part.problems}
        return Inspection(found, unreadable, [problem for problem in early if problem not in listed])

    def admit(self, splits: Sequence[str], folder: Path | None, may_be_empty: Collection[str] = ()) -> Admitted:
        """The sound samples of the splits, after a line on each of them.

        folder: where all problems are listed, if there are any. may_be_empty: splits that need no objects. Errors:
        UserError with the first problem, if they are refused or concern a whole split.
        """
        inspection = self.inspect(splits)
        for split, found in inspection.splits.items():
            log.info("%-6s %s", f"{split}:", found.census.line())
        for line in inspection.shared():
            log.info("%s", line)
        self._refuse_or_list(inspection, folder)  # a split of which nothing is left is so because of these
        for error in inspection.unreadable.values():
            raise error
        for split, found in inspection.splits.items():
            if not found.sound and found.errors:
                raise UserError(f"no image of {split} is left, all of them have problems: {found.errors[0].line}")
            if found.faults and split not in may_be_empty:
                raise UserError(found.faults[0].line)
            _report_dropped(found)
        samples = {split: found.sound for split, found in inspection.splits.items()}
        return Admitted(samples, {split: part.errors for split, part in inspection.splits.items() if part.errors})

    def _refuse_or_list(self, inspection: Inspection, folder: Path | None) -> None:
        rows = [(split, problem) for split, found in inspection.splits.items() for problem in found.errors]
        rows += [("", problem) for problem in inspection.early if problem.severity == ERROR]
        lines = list(dict.fromkeys(problem.line for _, problem in rows))
        if not lines:
            return
        place = ""
        if folder is not None and (self.skips or len(lines) > 1):
            write_atomically(folder / LISTING, _table(rows).encode(errors="surrogateescape"))
            place = f", all of them in {folder / LISTING}"
        if not self.skips:
            raise UserError(_refusal(lines, place))
        log.warning("%d problems%s; dataset.on_error=skip leaves these images out:", len(lines), place)
        for line in lines[:MAX_LINES]:
            log.warning("skipped: %s", line)


def _sorted_out(
    samples: Sequence[Sample], images: Sequence[ImageFacts], classes: int
) -> tuple[list[Sample], list[Problem]]:
    """Those of a split's samples that are sound, and the problems of the others."""
    doubles = double_faults(samples)
    sound, problems = [], []
    for place, (sample, image) in enumerate(zip(samples, images, strict=True)):
        faults = [*box_faults(sample, classes), *image_faults(sample, image)]
        if place in doubles:
            faults.append(doubles[place])
        problems += faults
        if not faults:
            sound.append(sample)
    return sound, problems


def _look(splits: Mapping[str, Sequence[Sample]], known: Known) -> dict[tuple[str, str], ImageFacts]:
    """The images of all samples by _place(), each file looked at once."""
    unique = {_place(sample): sample for samples in splits.values() for sample in samples}
    keys = {place: key_of(sample) for place, sample in unique.items()}
    found = {}
    for place, key in keys.items():
        image = known.get(key) if key else None
        # One that would be refused is looked at: what is remembered may be damaged.
        if image and image.size and not size_problem(unique[place], image.size):
            found[place] = image
    new = [place for place in unique if place not in found]
    if new:
        seen = _seen(new, [unique[place] for place in new])
        known.put({key: image for place, image in seen.items() if (key := keys[place])})
        found |= seen
    return found


def _seen(places: Sequence[tuple[str, str]], samples: Sequence[Sample]) -> dict[tuple[str, str], ImageFacts]:
    found: dict[tuple[str, str], ImageFacts] = {}
    with progress("checking images", len(places)) as done:
        for place, image in zip(places, look_at_all(samples), strict=True):
            found[place] = image
            done(len(found))
    return found


def _place(sample: Sample) -> tuple[str, str]:
    return sample.id, str(sample.path)


def _refusal(lines: Sequence[str], place: str) -> str:
    """One line: the first problem, how many there are, and what helps. place: where they are listed."""
    if len(lines) == 1:
        return f"{lines[0]} ({ADVICE})"
    for line in lines[:MAX_LINES]:
        log.error("%s", line)
    return f"{lines[0]}; and {len(lines) - 1} more{place} ({ADVICE})"


def _report_dropped(found: Found) -> None:
    """A line for each of the first boxes that are left out because nothing can be learned from them."""
    lines = [problem.line for problem in found.problems if problem.severity == WARNING and not problem.kept]
    for line in lines[:MAX_LINES]:
        log.warning("dropped: %s", line)
    if len(lines) > MAX_LINES:
        log.warning("dropped: %d more boxes", len(lines) - MAX_LINES)


def _table(rows: Sequence[tuple[str, Problem]]) -> str:
    """CSV of problems with their splits, one per line."""
    text = io.StringIO()
    writer = CsvWriter(text)
    writer.writerow(("split", "kind", "file", "object", "what"))
    for split, problem in rows:
        writer.writerow((split, problem.kind, problem.file, problem.object or "", problem.what))
    return text.getvalue()
