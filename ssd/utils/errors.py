"""The one exception a user is meant to see, and the hints and lists that its message may have."""

import difflib
from collections.abc import Iterable, Sequence

from ssd.utils.logs import CONTROLS

LONGEST = 10_000  # characters of a message
# What one_line() escapes, but for the ends of lines in errors of other programs: they become blanks.
REPLACED = CONTROLS | dict.fromkeys(map(ord, "\t\n\r"), " ")


class UserError(Exception):
    """Bad input or configuration, reported in one line: what is wrong, where, and what would be right. Line ends in
    the message become blanks, other control characters are shown as \\x1b, …

    The runner prints the message alone, without a traceback, and exits with a non-zero code. Everything else
    that escapes a job is a bug of this package and keeps its traceback.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        text = message if len(message) <= LONGEST else f"{message[:LONGEST]}…"
        super().__init__(text.encode(errors="backslashreplace").decode().translate(REPLACED))


class InterruptedRun(UserError):  # noqa: N818 - not a mistake of anybody's
    """A signal stopped a training between two steps; what it has learned is saved, and it can be resumed."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


class LostWorkerError(UserError):
    """A process that a training on several workers needs is gone, or did not come."""

    exit_code = 69  # EX_UNAVAILABLE of sysexits.h


class DivergedError(UserError):
    """A training's latest steps have made its network worse: they are not worth a checkpoint."""


class UnsafeDataError(UserError):
    """The dataset was looked at, and training on it would stop or go wrong."""

    exit_code = 1


class DifferentModelError(UserError):
    """A model was exported, and does not answer what the trained one does."""

    exit_code = 1


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """ "did you mean 'x'?" with the nearest of the known names; empty where none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else ""


def first_few(items: Sequence[str], most: int, separator: str = ", ") -> str:
    """At most so many of the items for a message, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return separator.join(items[:most]) + more
