"""What the dataset check found, by kind; only so much of it is kept, all of it is counted."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ssd.data.inspection.problems import ERROR, Problem

# What each kind is called in the report, and what helps. In the order of the report.
KINDS = {
    "split": ("Splits that cannot be read", "name the files of the split, see the options of the dataset"),
    "labels": ("Splits most of whose images have no label file", "put the label files where they are looked for"),
    "empty": ("Splits without an object", "check the annotations and dataset.classes"),
    "unusable": ("Missing or unreadable annotations or images", "repair them, or leave them out of the split"),
    "unreadable_image": ("Images that cannot be decoded", "copy them again, or leave them out of the split"),
    "image_size": ("Images of another size than annotated", "save them upright and unscaled, or annotate them anew"),
    "object": ("Objects without a name or box", "repair or delete them"),
    "class": ("Objects of unknown classes", "add the class to dataset.classes, or correct the name"),
    "swapped": ("Boxes with swapped corners", "write (xmin, ymin, xmax, ymax), not (x, y, width, height)"),
    "out_of_range": ("Boxes that leave their image", "dataset.out_of_range=clip cuts them, if they are right at all"),
    "units": ("Coordinates in the wrong unit", "boxes are pixels of the image, not shares or percents of it"),
    "name": ("Images whose path no list can hold", "rename them: UTF-8 text without line breaks or tabs"),
    "double": ("Images listed twice, ids used twice", "list each image once, give each an id of its own"),
    "unlabeled": (
        "Images without a label file",
        "add the missing ones; an image that shows no object needs an empty one",
    ),
    "orphan": ("Labels that belong to no image", "give each the name of its image, or delete it"),
    "passed_over": ("Files that were passed over", "put them in place in a form that is read, or delete them"),
    "leak": ("Images both trained on and measured with", "keep each image in one split only"),
    "similar": ("Images of the other splits that look like one of train", "look at them: they may be copies"),
    "repeated": ("Images that occur twice in a split", "list each image once, unless it is meant to count double"),
    "degenerate": ("Boxes without area", "they are left out of the training; draw or delete them"),
    "duplicate": ("Boxes annotated twice", "delete one of the two"),
    "conflict": ("One box, several classes", "keep the class that is right"),
    "classes": ("Classes that not every split has", "split anew, or drop the class: it is not learned or not measured"),
    "small": ("Boxes too small for the network's input", "a larger data_shape, or cut the images into tiles"),
    "anchors": ("Boxes that no anchor meets", "job=anchors suggests sizes and ratios for this dataset"),
}


@dataclass(frozen=True)
class Finding:
    """split: "" for the whole dataset. file: "" where it is no single one. object: its number in the file, from 1."""

    kind: str
    severity: str
    split: str
    file: str
    object: int | None
    what: str


class Findings:
    """Counts every finding, keeps the first `limit` of each kind. The same problem of a file is listed once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.counts: Counter[tuple[str, str]] = Counter()  # (kind, severity)
        self._kept: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
        self._seen: set[int] = set()

    def add(self, finding: Finding) -> None:
        key = hash((finding.kind, finding.file, finding.object, finding.what))
        if key in self._seen:  # an image that belongs to two splits
            return
        self._seen.add(key)
        self.counts[finding.kind, finding.severity] += 1
        if len(self._kept[finding.kind]) < self.limit:
            self._kept[finding.kind].append(finding)

    def add_problem(self, problem: Problem, split: str) -> None:
        self.add(Finding(problem.kind, problem.severity, split, problem.file, problem.object, problem.what))

    def __iter__(self) -> Iterator[Finding]:
        """What is kept, in the order of KINDS."""
        for kept in self._kept.values():
            yield from kept

    def of(self, kind: str) -> list[Finding]:
        return self._kept[kind]

    def count(self, severity: str) -> int:
        return sum(number for (_, of), number in self.counts.items() if of == severity)

    def kinds(self) -> list[tuple[str, str, int]]:
        """(kind, severity, number) of what was found, in the order of KINDS, errors before warnings."""
        order = {kind: place for place, kind in enumerate(KINDS)}
        rows = [(kind, severity, number) for (kind, severity), number in self.counts.items()]
        return sorted(rows, key=lambda row: (row[1] != ERROR, order[row[0]]))

    def to_json(self) -> dict:
        """{"counts": [{kind, severity, count, title, advice}], "list": [finding …], "root"}; the list may be shorter.

        root: the folder that all files of the list are in, "" if there is none.
        """
        counts = [
            {"kind": kind, "severity": severity, "count": number, "title": KINDS[kind][0], "advice": KINDS[kind][1]}
            for kind, severity, number in self.kinds()
        ]
        return {"counts": counts, "list": [asdict(finding) for finding in self], "root": self._root()}

    def _root(self) -> str:
        folders = {os.path.dirname(finding.file) for finding in self if finding.file}
        try:
            return os.path.commonpath(folders)
        except ValueError:  # none, or relative and absolute ones
            return ""


def shortened(finding: dict, root: str) -> tuple[str, str]:
    """File and text of a finding of to_json(), file names relative to root."""
    if not root:
        return finding["file"], finding["what"]
    file = os.path.relpath(finding["file"], root) if finding["file"] else ""
    return file, finding["what"].replace(f"{root}/", "")
