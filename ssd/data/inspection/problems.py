"""What is wrong with a dataset: the first problem stops a training, the dataset check collects all of them.

The same readers serve both. They reject() what cannot be used, which raises a UserError, unless somebody collects, as
warnings.catch_warnings() does for warnings:

    with collecting() as problems:
        samples = dataset.split("train")     # without the images and objects that problems names

A format takes part by reading each image inside `with skip_invalid(...)`. One that does not still works: collecting, it
ends at its first mistake. With collecting(whole=True) an image is left out as a whole when one of its objects is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from ssd.utils.errors import UserError

ERROR = "error"  # training would stop at it, or learn or measure something wrong
WARNING = "warning"
REFUSE, SKIP = "refuse", "skip"
ON_ERROR = (REFUSE, SKIP)  # dataset.on_error: what becomes of images that cannot be used


@dataclass(frozen=True)
class Problem:
    """kind: a key of ssd.diagnostics.findings.KINDS. object: its number in the file, from 1; None for the whole file.

    message: of the error it was, where it was one. kept: whether the object is used all the same."""

    kind: str
    file: str
    object: int | None
    what: str
    severity: str = ERROR
    message: str = field(default="", compare=False)
    kept: bool = field(default=False, compare=False)

    @property
    def line(self) -> str:
        """The problem as the line of an error."""
        place = f"object {self.object}, " if self.object is not None else ""
        return self.message or (f"{self.file}: " if self.file else "") + place + self.what


@dataclass(frozen=True)
class _Collector:
    problems: list[Problem]
    whole: bool


class _BrokenObjectError(UserError):
    """An object that cannot be used, on its way to the image it belongs to."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.line)
        self.problem = problem


_collector: ContextVar[_Collector | None] = ContextVar("problems", default=None)


@contextmanager
def collecting(whole: bool = False) -> Iterator[list[Problem]]:
    """Inside of the block problems go into the list that it yields, and nothing is refused. Per thread.

    whole: the first object of an image that cannot be used leaves out all of the image.
    """
    problems: list[Problem] = []
    token = _collector.set(_Collector(problems, whole))
    try:
        yield problems
    finally:
        _collector.reset(token)


def collect(problem: Problem) -> bool:
    """Hands a problem to whoever collects; False when nobody does."""
    collector = _collector.get()
    if collector is None:
        return False
    if collector.whole and problem.object is not None and problem.severity == ERROR:
        raise _BrokenObjectError(problem)
    collector.problems.append(problem)
    return True


def reject(error: UserError, kind: str, file: str, number: int | None = None) -> None:
    """Raises the error, or tells it when somebody collects; then the caller goes on without what was refused.

    The error's message starts with the file, and with "object N" where a number is given.
    """
    what = str(error).removeprefix(f"{file}: ")
    if number is not None:
        what = what.removeprefix(f"object {number}").lstrip(",: ")
    if not collect(Problem(kind, file, number, what, message=str(error))):
        raise error


@contextmanager
def skip_invalid(kind: str, file: str, number: int | None = None) -> Iterator[None]:
    """A block for one image or object: a UserError in it is refused, and the rest of the block left out."""
    try:
        yield
    except _BrokenObjectError as error:
        collector = _collector.get()
        if number is not None or collector is None:  # of an object: the image is left out further up
            raise
        collector.problems.append(error.problem)
    except UserError as error:
        reject(error, kind, file, number)
