"""How long a process of a cluster waits for another one."""

import time
from collections.abc import Mapping
from typing import Any

SAVE = "save"
FIRST_REPORT = 0.25  # of patience_s
LONGEST_LOOK = 2.0  # seconds between two looks at a stopwatch; what is longer was no waiting


class Stopwatch:
    """Seconds that pass while this process runs. Those in which it is stopped, or its machine sleeps, do not count."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()

    def look(self) -> float:
        """The seconds so far. Call it at least every LONGEST_LOOK seconds."""
        now = time.monotonic()
        self.seconds += min(now - self._last, LONGEST_LOOK)
        self._last = now
        return self.seconds


class Patience:
    """cluster.patience_s and cluster.on_hung, for one waiting."""

    def __init__(self, cluster: Mapping[str, Any]) -> None:
        self.seconds = float(cluster["patience_s"])
        self._saves = cluster["on_hung"] == SAVE
        self._next = FIRST_REPORT * self.seconds

    def is_over(self, waited: float) -> bool:
        """Whether so many seconds are too long. With on_hung=wait none are."""
        return self._saves and waited >= self.seconds

    def reports(self, waited: float) -> bool:
        """Whether it is time to report what is waited for: at a quarter of patience_s, and each time that doubles."""
        due = waited >= self._next
        while waited >= self._next:
            self._next *= 2
        return due
