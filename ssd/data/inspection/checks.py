"""The rules every annotated box must pass before it is trained on, whatever format it came from."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssd.data.base import empty_boxes
from ssd.data.inspection.problems import ERROR, WARNING, Problem, collect, reject
from ssd.utils.errors import UserError, did_you_mean

log = logging.getLogger(__name__)

OUT_OF_RANGE = ("error", "clip", "drop")
TOLERANCE = 1.0  # pixels over the border that are rounding, not a mistake
MAX_LINES = 10


# The six classes that PASCAL VOC and COCO spell differently, and how COCO spells them.
ALIASES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def class_names(names: Any, where: str, blanks: bool = False) -> tuple[str, ...]:
    """The names of classes as text, in their order: of a list, of a single name, or of a dict that numbers them 0, 1,
    2 ..., however they were read.

    A whole number is its digits. A truth value, a fraction or nothing is refused: YAML makes them of other text (no,
    1e3, ~), which is lost by then. UserError starting with `where`, also for names that occur twice, are empty or hold
    a line break. blanks: names may be empty: numbers that nothing uses, which keep those after them in place.
    """
    if isinstance(names, dict):
        names = _in_order(names, where)
    if isinstance(names, (str, int, float)) or names is None:
        names = [names]
    if not isinstance(names, (list, tuple)) or not names:
        raise UserError(f"{where}: names must be a list of class names, at least one")
    found: list[str] = []
    for name in names:
        if isinstance(name, (bool, float)) or name is None:
            raise UserError(
                f"{where}: YAML reads one of the names as {_yaml(name)}; put names in quotes, such as ['no', '1e3']"
            )
        if not isinstance(name, (str, int)):
            raise UserError(f"{where}: names must be a list of class names, not of {type(name).__name__}s")
        text = str(name).strip()
        if (problem := name_problem(text)) and not (blanks and not text):
            raise UserError(f"{where}: names must be different texts: {text[:40]!r} {problem}")
        if text and text in found:
            raise UserError(f"{where}: names must be different: {text[:40]!r} occurs twice")
        found.append(text)
    if not any(found):
        raise UserError(f"{where}: names must be a list of class names, at least one")
    return tuple(found)


def _in_order(names: dict[Any, Any], where: str) -> list[Any]:
    try:
        numbered = {int(str(number)): name for number, name in names.items()}
    except ValueError:
        numbered = {}
    if not names or len(numbered) < len(names) or set(numbered) != set(range(len(numbered))):
        raise UserError(f"{where}: names must be numbered 0, 1, 2 ... without a gap")
    return [numbered[index] for index in range(len(numbered))]


def nearly_equal(names: Sequence[str]) -> tuple[str, str] | None:
    """The first two names that differ in nothing but capitals and blanks: two classes, and often meant as one."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault("".join(name.casefold().split()), name)
        if other != name:
            return other, name
    return None


def name_problem(name: str) -> str | None:
    """Why a text cannot be the name of a class; None when it can."""
    if not name:
        return "is empty"
    if any(ord(character) < 32 or ord(character) == 127 for character in name) or len(name.splitlines()) > 1:
        return "holds a line break or another control character"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "is no text (half of a surrogate pair)"
    return None


def _yaml(value: Any) -> str:
    if value is None:
        return "nothing (null)"
    return f"the truth value {str(value).lower()}" if isinstance(value, bool) else f"the number {value}"


def find_class(name: str, classes: Sequence[str]) -> int | None:
    """The place of a class name in a list, None when it is not there.

    A name that is there only in the other spelling of ALIASES counts as there.
    """
    if name in classes:
        return classes.index(name)
    wanted = ALIASES.get(name, name)
    return next((index for index, other in enumerate(classes) if ALIASES.get(other, other) == wanted), None)


def class_index(name: str, classes: Sequence[str], where: str) -> int:
    """The position of a class name; UserError with the nearest known name when it is not in the list."""
    index = find_class(name, classes)
    if index is None:
        hint = did_you_mean(name, classes) or f"dataset.classes has {', '.join(classes)}"
        raise UserError(
            f"{where}: class {name!r} is not in dataset.classes; {hint} "
            "(dataset.unknown_classes=drop leaves such objects out)"
        )
    return index


class BoxChecker:
    """Checks the boxes of one split and remembers what it dropped, so that one report can be logged at the end.

    When somebody collects problems they go there instead, and boxes outside of their image are cut, not refused.

    out_of_range: what becomes of a box that leaves its image by more than a pixel: "error", "clip" or "drop".
    """

    def __init__(self, out_of_range: str) -> None:
        if out_of_range not in OUT_OF_RANGE:
            raise UserError(f"dataset.out_of_range={out_of_range}: expected {' or '.join(OUT_OF_RANGE)}")
        self.out_of_range = out_of_range
        self.dropped: list[str] = []

    def check(
        self,
        rows: Sequence[Sequence[float]],
        size: tuple[int, int],
        where: str,
        numbers: Sequence[int] | None = None,
    ) -> np.ndarray:
        """float32 [N, 6]: the usable rows, inside the image.

        rows: (class, xmin, ymin, xmax, ymax, difficult) in continuous pixels; size: (width, height); where: the
        file, and numbers: of the objects in it (1, 2, ... when None), for messages. Boxes without area, also after
        clipping, are dropped and remembered; so are those whose first corner is not the upper left one.
        """
        kept = []
        for number, row in zip(numbers or range(1, len(rows) + 1), rows, strict=True):
            index, xmin, ymin, xmax, ymax, difficult = row
            if xmax < xmin or ymax < ymin:
                self._drop("swapped", where, number, f"box {_corners(row)}, has swapped corners")
                continue
            if xmax == xmin or ymax == ymin:
                self._drop("degenerate", where, number, f"box {_corners(row)}, has no area")
                continue
            outside = max(-xmin, -ymin, xmax - size[0], ymax - size[1])
            if outside > TOLERANCE:
                what = f"box {_corners(row)}, leaves the image of {size[0]}x{size[1]}"
                if self.out_of_range == "error":
                    advice = "dataset.out_of_range=clip cuts such boxes, dataset.out_of_range=drop leaves them out"
                    error = UserError(f"{where}: object {number}, {what}; {advice}")
                    reject(error, "out_of_range", where, number)
                elif self.out_of_range == "drop":
                    self._drop("out_of_range", where, number, what)
                    continue
                else:
                    collect(Problem("out_of_range", where, number, f"{what} and is cut", WARNING, kept=True))
            clipped = (max(xmin, 0.0), max(ymin, 0.0), min(xmax, size[0]), min(ymax, size[1]))
            if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
                what = f"box {_corners(row)}, lies outside the image of {size[0]}x{size[1]}"
                self._drop("out_of_range", where, number, what)
                continue
            kept.append((index, *clipped, difficult))
        return np.asarray(kept, np.float32) if kept else empty_boxes()

    def report(self) -> None:
        """Logs what was dropped: one line per box, the first few only, then their number."""
        for line in self.dropped[:MAX_LINES]:
            log.warning("dropped: %s", line)
        if len(self.dropped) > MAX_LINES:
            log.warning("dropped: %d more boxes", len(self.dropped) - MAX_LINES)

    def _drop(self, kind: str, where: str, number: int, what: str) -> None:
        # A swapped box was an object, which the network would be taught to overlook.
        if not collect(Problem(kind, where, number, what, ERROR if kind == "swapped" else WARNING)):
            self.dropped.append(f"{where}: object {number}, {what}")


def _corners(row: Sequence[float]) -> str:
    return "({:g}, {:g}, {:g}, {:g})".format(*row[1:5])
