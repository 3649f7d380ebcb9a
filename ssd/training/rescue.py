"""What ends a training without being its end: whatever it is, the last whole step is saved before."""

import gc
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from ssd.mxnet_compat import mx
from ssd.tracking.events import Pruned
from ssd.utils.errors import DivergedError, InterruptedRun, LostWorkerError, UserError

log = logging.getLogger(__name__)

RESERVE = 128 << 20  # bytes

# What MXNet says when there is no more memory, on a CPU and on a GPU.
NO_MEMORY = ("out of memory", "bad_alloc", "Failed to allocate", "Memory allocation failed", "Cannot allocate memory")


class Rescuer(Protocol):
    def rescue(self) -> int | None:
        """Saves; returns the number of the last whole step, None when there is none. Errors: any."""

    @property
    def resumable(self) -> bool:
        """Whether anything is saved, of whatever step."""


@contextmanager
def rescued(training: Rescuer, command: Callable[[], str]) -> Iterator[None]:
    """Saves before an error leaves the block, and adds to its message what is saved and the command that resumes.

    A UserError stays one line, of the same class; memory that is short becomes one. Any other error is one of a bug or
    of a user's own code: it keeps its type and traceback, and a line of the log says what is saved. When saving fails,
    too, that is said behind the first error. Not saved is what a guard has found to have diverged.

    Where memory is short, saving has RESERVE bytes of it, and what the failed step held.
    """
    reserve = _reserve()
    try:
        yield
    except DivergedError:
        raise
    except BaseException as error:
        reserve.clear()
        if _is_memory(error):
            traceback.clear_frames(error.__traceback__)
            gc.collect()
        outcome = _save(training, error, command)
        if isinstance(error, Pruned):
            raise
        joint = " and " if isinstance(error, InterruptedRun) else "; "
        if isinstance(error, UserError):
            error.args = (f"{error}{joint}{outcome}",)
            raise
        if _is_memory(error):
            raise UserError(f"memory is exhausted ({_first_line(error)}); {outcome}") from error
        log.error("%s; %s", _first_line(error), outcome)
        raise


def _reserve() -> bytearray:
    """Addresses that nobody else gets. Never written to, they take no memory; there may be none to have."""
    try:
        return bytearray(RESERVE)
    except MemoryError:
        return bytearray()


def _save(training: Rescuer, error: BaseException, command: Callable[[], str]) -> str:
    try:
        step = training.rescue()
        outcome = f"saved after step {step}"
    except BaseException as second:
        said = str(second) if isinstance(second, UserError) else _first_line(second)
        # Where the first one was that of a checkpoint, the second is the same.
        outcome = "tried twice" if said == str(error) else f"what was learned cannot be saved: {said}"
    else:
        if step is None:
            return "nothing was learned yet"
    own = isinstance(error, (InterruptedRun, LostWorkerError))  # which name the command wherever they come from
    return outcome + (f"; go on with: {command()}" if training.resumable and not own else "")


def _is_memory(error: BaseException) -> bool:
    known = isinstance(error, mx.base.MXNetError) and any(text in str(error) for text in NO_MEMORY)
    # A thread needs room for its stack; Python does not say that more than in the text.
    threadless = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    return known or threadless or isinstance(error, MemoryError)


def _first_line(error: BaseException) -> str:
    """MXNet's errors begin with where they come from, and end with what they are."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return f"{type(error).__name__}: {lines[-1 if isinstance(error, mx.base.MXNetError) else 0]}"
