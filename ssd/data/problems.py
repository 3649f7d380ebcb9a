"""What is wrong with a data set: the first problem stops a training, all of them are what the data doctor wants.

The same readers serve both. They refuse() what cannot be used, which raises a UserError, unless somebody collects, as
warnings.catch_warnings() does for warnings:

    with collecting() as problems:
        samples = dataset.split("train")     # without the pictures and objects that problems names

A format takes part by reading each picture inside `with skipping(...)`. One that does not still works: collecting, it
ends at its first mistake.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from ssd.errors import UserError

ERROR = "error"  # training would stop at it, or learn or measure something wrong
WARNING = "warning"


@dataclass(frozen=True)
class Problem:
    """kind: a key of ssd.doctor.findings.KINDS. object: its number in the file, from 1; None for the whole file."""

    kind: str
    file: str
    object: int | None
    what: str
    severity: str = ERROR


_collector: ContextVar[list[Problem] | None] = ContextVar("problems", default=None)


@contextmanager
def collecting() -> Iterator[list[Problem]]:
    """Inside of the block problems go into the list that it yields, and nothing is refused. Per thread."""
    problems: list[Problem] = []
    token = _collector.set(problems)
    try:
        yield problems
    finally:
        _collector.reset(token)


def tell(problem: Problem) -> bool:
    """Hands a problem to whoever collects; False when nobody does."""
    collector = _collector.get()
    if collector is not None:
        collector.append(problem)
    return collector is not None


def refuse(error: UserError, kind: str, file: str, number: int | None = None) -> None:
    """Raises the error, or tells it when somebody collects; then the caller goes on without what was refused.

    The error's message starts with the file, and with "object N" where a number is given.
    """
    what = str(error).removeprefix(f"{file}: ")
    if number is not None:
        what = what.removeprefix(f"object {number}").lstrip(",: ")
    if not tell(Problem(kind, file, number, what)):
        raise error


@contextmanager
def skipping(kind: str, file: str, number: int | None = None) -> Iterator[None]:
    """A block for one picture or object: a UserError in it is refused, and the rest of the block left out."""
    try:
        yield
    except UserError as error:
        refuse(error, kind, file, number)
