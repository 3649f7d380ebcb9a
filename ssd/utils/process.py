"""How a process ended, and how long one has waited for another."""

import signal
import time

LONGEST_LOOK = 2.0  # seconds


def describe_exit(code: int) -> str:
    """How a process ended, from its exit code as subprocess gives it: "ended with exit code 1", "killed by SIGSEGV"."""
    if code >= 0:
        return f"ended with exit code {code}"
    number = -code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"killed by {name}" + (" (out of memory?)" if number == signal.SIGKILL else "")


class Stopwatch:
    """Seconds that pass while this process runs. Those in which it is stopped, or its machine sleeps, do not count."""

    def __init__(self, longest: float = LONGEST_LOOK) -> None:
        """longest: seconds between two looks; what is longer was no waiting."""
        self.seconds = 0.0
        self._longest = longest
        self._last = time.monotonic()

    def look(self) -> float:
        """The seconds so far. Call it at least every `longest` seconds."""
        now = time.monotonic()
        self.seconds += min(now - self._last, self._longest)
        self._last = now
        return self.seconds
