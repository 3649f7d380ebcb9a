"""Processes: the cores they may run on, how long they last, how they ended, and how long one has waited for another."""

import ctypes
import multiprocessing
import os
import signal
import sys
import time

PARENT_DEATH = 1  # PR_SET_PDEATHSIG of Linux's prctl


def cores_by_thread() -> list[list[int]]:
    """Usable CPU numbers, those of one physical core (hyper-threads) together (elsewhere than on Linux: each alone)."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores: dict[str, list[int]] = {}
    for cpu in sorted(allowed):
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
                name = file.read().strip()
        except OSError:
            name = str(cpu)
        cores.setdefault(name, []).append(cpu)
    return list(cores.values())


def physical_cores() -> int:
    """Cores this process may run on, hyper-threads counted once."""
    return max(1, len(cores_by_thread()))


def usable_cores() -> int:
    """Logical cores this process may run on."""
    return max(1, sum(len(core) for core in cores_by_thread()))


def end_with_parent() -> None:
    """Has Linux kill this process when the thread that has started it is gone, even if it is stopped or waits."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        if parent is not None and os.getppid() != parent.pid:  # it was gone before Linux knew
            os._exit(1)


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
