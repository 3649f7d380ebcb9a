"""The side of a process other than worker 0: its line, and how long it waits for worker 0.

It ends when worker 0 says so, or is gone.
"""

import contextlib
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from ssd.launch.channel import Channel, Patience
from ssd.launch.plan import WORKER
from ssd.utils.errors import LostWorkerError

PATIENCE = 60.0  # seconds to connect, for a process that worker 0 has started
MOST_ERROR = 8000  # characters of an error that worker 0 receives
LOST = LostWorkerError.exit_code


class WorkerProcess:
    """The line to worker 0, and what it has said."""

    def __init__(self, line: Channel, name: str) -> None:
        self.name = name
        self._line = line
        self._messages: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
        line.send({"name": name, "host": socket.gethostname(), "process": os.getpid()})
        self.welcome, _ = line.receive(_give_up)
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> tuple[dict[str, Any], bytes]:
        return self._messages.get()

    def wait(self, function: Callable[[], Any], what: str | None = None) -> Any:
        """As Coordinator.wait; this process does not live to see worker 0 give up."""
        with contextlib.suppress(OSError):  # worker 0 is gone, and soon this process
            self._line.send({"waits": True})
        return function()

    def report_error(self, error: str) -> None:
        with contextlib.suppress(OSError):
            self._line.send({"error": error[:MOST_ERROR]})

    def _listen(self) -> None:
        """Ends the process in the midst of whatever it does: it has nothing that anybody needs, and may be waiting for
        a process that is gone."""
        try:
            while True:
                message, content = self._line.receive(partial(self._idle, Patience(self.welcome["patience"])))
                if "end" in message:
                    os._exit(message["end"])
                if "beat" in message:
                    self._line.send(message)
                    continue
                self._messages.put((message, content))
        except (EOFError, OSError):
            self._leave("worker 0 is gone, so this one ends")

    def _idle(self, patience: Patience, silence: float) -> None:
        """Worker 0 has not been heard of for so many seconds; while it trains or validates, it is every second."""
        if patience.is_over(silence):
            self._leave(f"cluster.patience_s={patience.seconds:g}: worker 0 gives no sign of life, so this one ends")
        if patience.reports(silence):
            self._say(f"waiting {silence:.0f} s for worker 0: no sign of life")

    def _leave(self, reason: str) -> NoReturn:
        self._say(reason)
        os._exit(LOST)

    def _say(self, text: str) -> None:
        if self.name.startswith(WORKER):
            sys.stderr.write(f"{self.name} ({socket.gethostname()}): {text}\n")
            sys.stderr.flush()


def _give_up(silence: float) -> None:
    if silence > PATIENCE:
        raise EOFError("worker 0 does not welcome it")
