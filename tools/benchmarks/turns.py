"""Contenders that work in turns: each in a process of its own, so that their libraries and threads do not mix.

A contender is a script that ends in serve(work): it gets numbers on its standard input, does its work that many times,
and answers with one line of JSON. The others wait meanwhile, and do not compute.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
READY = "ready"


def serve(work: Callable[[], Any]) -> None:
    """Does `work` as often as told, until there is nothing more to read."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not come between
    work()  # the first time allocates, compiles and tunes
    print(READY, file=answers)
    for line in sys.stdin:
        work()  # the others had the processor and its caches meanwhile
        seconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
        print(json.dumps({"seconds": seconds, "megabytes": most_memory()}), file=answers)


def most_memory() -> float:
    """Megabytes that this process had at most; getrusage would count those of the one it was forked from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class Contender:
    """A running script. seconds: of each piece of work; megabytes: the most memory it ever had."""

    def __init__(self, name: str, script: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        """environment: added to this process's own; an empty value takes the variable away."""
        self.name = name
        self.seconds: list[float] = []
        self.megabytes = 0.0
        changed = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), **environment}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "peers" / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if os.environ.get("QUIET", "1") == "1" else None,
            text=True,
            env={key: value for key, value in changed.items() if value != ""},
        )

    def ready(self) -> str | None:
        """None once it can start, or the last line of why it cannot."""
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() == READY:
            return None
        _, errors = self._process.communicate()
        lines = (errors or "").strip().splitlines()
        return lines[-1] if lines else f"ended with exit code {self._process.returncode}"

    def work(self, times: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(times, file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        self.seconds += answer["seconds"]
        self.megabytes = answer["megabytes"]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def in_turns(contenders: list[Contender], rounds: int, times: int) -> tuple[list[Contender], dict[str, str]]:
    """Rounds in which each works `times` times; returns those that could, and why the others could not.

    They start one after the other, so that none compiles while another is timed.
    """
    able, unable = [], {}
    for contender in contenders:
        problem = contender.ready()
        if problem is None:
            able.append(contender)
        else:
            unable[contender.name] = problem
    for number in range(rounds):
        for contender in able[number % len(able) :] + able[: number % len(able)]:
            contender.work(times)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for contender in able:
        contender.close()
    return able, unable
