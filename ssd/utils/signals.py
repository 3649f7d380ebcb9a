"""Requests to stop while a training runs: the step is finished, then it is saved. A later signal ends it at once."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

# By hand, by a system that ends, by a terminal or an ssh that is gone, and by Slurm's --signal=USR1.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
ONE_REQUEST = 1.0  # seconds in which another signal belongs to the first: schedulers and terminals send several


def heeded() -> list[signal.Signals]:
    """SIGNALS without SIGHUP and SIGUSR1 where they are ignored, as SIGHUP is under nohup."""
    always = (signal.SIGTERM, signal.SIGINT)
    return [number for number in SIGNALS if number in always or signal.getsignal(number) is not signal.SIG_IGN]


class Request:
    """Tells a signal that belongs to a request to stop from one that insists."""

    def __init__(self) -> None:
        self._first: dict[int, float] = {}  # signal -> when it first came

    @property
    def come(self) -> bool:
        """Whether there was any signal."""
        return bool(self._first)

    def insists(self, number: int) -> bool:
        """Notes a signal: whether one of its kind has come more than ONE_REQUEST seconds ago."""
        now = time.monotonic()
        return now - self._first.setdefault(number, now) > ONE_REQUEST


class StopSignals:
    """Notes the first signal, as a context manager. Outside of the main thread Python lets nobody.

    Others are the same request, until one insists: that ends the process.
    """

    come = False  # one of them, to whichever training of this process

    def __init__(self) -> None:
        self.name: str | None = None  # of the signal that came
        self._before: dict[int, Any] = {}
        self._request = Request()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._request.insists(number):
            self.name = self.name or signal.Signals(number).name
            StopSignals.come = True
            return
        # Not through logging: what was interrupted may hold its lock.
        os.write(2, f"{signal.Signals(number).name} again: ended at once, the latest steps are not saved\n".encode())
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in heeded()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
