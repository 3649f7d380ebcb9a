"""A job of a sweep, seen from the sweep: a process of its own.

One that is killed, crashes or leaks is then no concern of the others; every job finds its own devices, threads and
seeds as a single run does; and the process that Hydra's launchers start stays small.
"""

import contextlib
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ssd.config.commands import task_overrides
from ssd.sweeps.outcome import FAILED, FINISHED, INTERRUPTED, RUNNING, Outcome, read, read_all
from ssd.utils.atomic_files import write_atomically
from ssd.utils.process import describe_exit, end_with_parent
from ssd.utils.signals import Request, heeded


class Sweep(Callback):
    folder: Path | None = None  # of the sweep that this process runs, once it has begun
    ended_by: str | None = None  # the signal that ends it
    parallel = False  # its jobs are begun by joblib's processes

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.folder = Path(config.hydra.sweep.dir)
        Sweep.parallel = _is_joblib(config.hydra.launcher)
        (Sweep.folder / ENDING).unlink(missing_ok=True)  # of an earlier one
        if threading.current_thread() is threading.main_thread():
            request = Request()
            for number in heeded():
                signal.signal(number, partial(_end_as_by_ctrl_c, request))


def _end_as_by_ctrl_c(request: Request, number: int, frame: FrameType | None) -> None:
    """The first signal ends the sweep, which waits for its jobs to be saved; one that insists ends that, too."""
    first, insists = not request.come, request.insists(number)
    if first:
        Sweep.ended_by = signal.Signals(number).name
        # joblib would kill its processes, and with them all jobs, at once. They end theirs and come back by themselves.
        if Sweep.parallel and Sweep.folder and _asks_to_end(Sweep.folder, Sweep.ended_by):
            return
    if first or insists:
        raise KeyboardInterrupt


def _asks_to_end(sweep: Path, reason: str) -> bool:
    """Leaves the name of the signal where joblib's processes look; whether that could be written."""
    try:
        write_atomically(sweep / ENDING, reason.encode())
    except OSError:
        return False
    return True


def end_if_asked() -> None:
    """Errors: KeyboardInterrupt in a sweep that a signal ends, wherever it is."""
    if Sweep.ended_by:
        raise KeyboardInterrupt


def close_unfinished() -> None:
    """Of a sweep that a signal has ended, marks the jobs that could not say so themselves."""
    if Sweep.folder is None or Sweep.ended_by is None:
        return
    (Sweep.folder / ENDING).unlink(missing_ok=True)
    for folder, outcome in read_all(Sweep.folder).items() if Sweep.parallel else ():
        if outcome.state == RUNNING:
            outcome.ended(INTERRUPTED, "interrupted").write(folder)


def _is_joblib(launcher: Any) -> bool:
    return "joblib" in launcher._target_


ENDING = ".ending"  # a file in the folder of a sweep by joblib, that names the signal which ends it
LOOK = 0.2  # seconds between two looks for it
EXIT_TIMEOUT = 30.0  # seconds that an interrupted job has to close its files


def run_apart(cfg: DictConfig, folder: Path) -> float | None:
    """Runs the job in a process of its own; returns what the sweep optimizes, None unless it finished.

    It raises nothing but KeyboardInterrupt: what went wrong is in job.json.
    """
    hydra = HydraConfig.get()
    ending = None
    if Sweep.folder is None and _is_joblib(hydra.launcher):  # one of its processes, which would outlive the sweep
        end_with_parent()
        for number in heeded():  # which the sweep itself heeds; not ignored: that the job would inherit
            signal.signal(number, lambda number, frame: None)
        ending = Path(hydra.sweep.dir) / ENDING
        if ending.exists():
            return None
    begun = Outcome(hydra.job.num, task_overrides())
    begun.write(folder)
    # Resolved, because ${now:} would be another time over there.
    plain = OmegaConf.to_container(cfg, resolve=True), OmegaConf.to_container(hydra, resolve=True, enum_to_str=True)
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "ssd.sweeps.child"], stdin=subprocess.PIPE)
    assert process.stdin
    try:
        with contextlib.suppress(BrokenPipeError):  # it died at once; the code tells
            process.stdin.write(pickle.dumps(plain))
            process.stdin.flush()
        code = _wait(process, ending)
    except KeyboardInterrupt:
        if Sweep.ended_by != signal.SIGINT.name:  # by Ctrl-C the terminal has signaled the child, too
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(b"end")
                process.stdin.flush()
        try:
            process.wait(EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:  # a child that is stopped, too, which would not see that its parent ends
            process.kill()
            process.wait()
        if read(folder).state == RUNNING:
            begun.ended(INTERRUPTED, "interrupted").write(folder)
        if ending:
            return None
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):  # of what was not read, which would hide that the sweep is to end
            process.stdin.close()  # which ends a child that is still there
    outcome = read(folder)
    if outcome.state == RUNNING:
        outcome = outcome.ended(FAILED, describe_exit(code))
    outcome = replace(outcome, seconds=round(time.monotonic() - started, 1))
    outcome.write(folder)
    return outcome.value if outcome.state == FINISHED else None


def _wait(process: "subprocess.Popen[bytes]", ending: Path | None) -> int:
    """The exit code of a job. Errors: KeyboardInterrupt once the sweep is to end, which the file `ending` says."""
    if ending is None:
        return process.wait()
    while True:
        try:
            return process.wait(LOOK)
        except subprocess.TimeoutExpired:
            if ending.exists():
                Sweep.ended_by = ending.read_text()
                raise KeyboardInterrupt from None
