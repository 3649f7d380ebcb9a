"""A queue and the one thread that empties it: what is put in goes to a slow place without anybody waiting for it."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssd.config.credentials import scrubbed

log = logging.getLogger(__name__)

BATCH = 100


@dataclass(frozen=True)
class Entry:
    kind: str  # what it is called when it could not be sent
    content: Any


class TryAgainError(Exception):
    """What `send` raises when the same entries may go through later: the other side is down, busy or slow."""


class Outbox:
    """Sends entries in their order, up to BATCH neighbors of one kind at once.

    `send(entries)` runs on the outbox's own thread. TryAgainError makes it wait `retry_seconds` and try again; any
    other exception loses these entries, and the next are sent. An entry that finds `limit` others waiting is lost,
    unless it is put as a vital one. The log gets one line when the other side falls silent, one when it is back, and
    one for the first entry refused.
    """

    def __init__(self, send: Callable[[list[Entry]], None], name: str, limit: int, retry_seconds: float) -> None:
        self._send = send
        self._name = name
        self._limit = limit
        self._retry_seconds = retry_seconds
        self._waiting: deque[Entry] = deque()
        self._lost: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._gave_up = threading.Event()
        self._silent = self._silent_before_the_end = False
        self._refused = False
        # A daemon, so that a server that never answers cannot keep the program from ending.
        self._thread = threading.Thread(target=self._work, name=f"{name}-outbox", daemon=True)
        self._thread.start()

    def put(self, kind: str, content: Any, vital: bool = False) -> None:
        """Never waits. vital: has room however many wait; for what there is little of."""
        with self._changed:
            if len(self._waiting) >= self._limit and not vital:
                self._lost[kind] += 1
            else:
                self._waiting.append(Entry(kind, content))
                self._changed.notify()

    def close(self, seconds: float) -> tuple[list[Entry], Counter[str]]:
        """Waits until all is sent, at most `seconds`; only for one last attempt if the other side was silent before.

        Returns the entries that were not sent, and how many of which kind are lost: refused, or without room.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            self._silent_before_the_end = self._silent
            self._closing.set()
            self._changed.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self._gave_up.set()
        with self._changed:
            return list(self._waiting), self._lost

    def _work(self) -> None:
        while entries := self._next():
            self._deliver(entries)
            if self._gave_up.is_set():
                return

    def _next(self) -> list[Entry]:
        """Waits for entries and returns those that go together, which stay in the queue; [] when there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            together: list[Entry] = []
            for entry in self._waiting:
                if together and (entry.kind != together[0].kind or len(together) == BATCH):
                    break
                together.append(entry)
            return together

    def _deliver(self, entries: list[Entry]) -> None:
        """Leaves the entries in the queue, where close() finds them, if time runs out before they are sent."""
        while True:
            last = self._closing.is_set()  # an attempt from before close() is not the one that it waits for
            if self._attempt(entries):
                break
            if not self._closing.is_set():
                self._closing.wait(self._retry_seconds)
            elif not self._silent_before_the_end:
                self._gave_up.wait(self._retry_seconds)
            elif last:
                self._gave_up.set()
            if self._gave_up.is_set():
                return
        with self._changed:
            if not self._gave_up.is_set():  # else they were counted as not sent, and are kept for later
                for _ in entries:
                    self._waiting.popleft()

    def _attempt(self, entries: list[Entry]) -> bool:
        """Whether the entries are done with: sent, or refused."""
        try:
            self._send(entries)
        except TryAgainError as error:
            if not self._silent:
                log.warning("%s does not answer: %s; training goes on, and so do attempts", self._name, error)
            self._silent = True
            return False
        except Exception as error:
            self._lost[entries[0].kind] += len(entries)
            if not self._refused:
                log.warning("%s refused %s: %s", self._name, entries[0].kind, first_line(error))
            self._refused = True
            return True
        if self._silent:
            log.info("%s answers again", self._name)
        self._silent = False
        return True


def first_line(error: BaseException) -> str:
    """Without credentials."""
    return scrubbed(f"{type(error).__name__}: {error}").splitlines()[0][:200]
