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
from ssd.sweeps.outcome import FAILED, FINISHED, INTERRUPTED, RUNNING, Outcome, read
from ssd.utils.cpu import end_with_parent
from ssd.utils.process import died
from ssd.utils.signals import Request, heeded


class Sweep(Callback):
    folder: Path | None = None  # of the sweep that this process runs, once it has begun
    terminated = False  # by a signal of which its jobs know nothing, unlike of Ctrl-C

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.folder = Path(config.hydra.sweep.dir)
        if threading.current_thread() is threading.main_thread():
            request = Request()
            for number in heeded():
                signal.signal(number, partial(_end_as_by_ctrl_c, request))


def _end_as_by_ctrl_c(request: Request, number: int, frame: FrameType | None) -> None:
    """The first signal ends the sweep, which waits for its jobs to be saved; one that insists ends that, too."""
    first, insists = not request.come, request.insists(number)
    if first:
        Sweep.terminated = number != signal.SIGINT
    if first or insists:
        raise KeyboardInterrupt


PATIENCE = 30.0  # seconds that an interrupted job has to close its files


def run_apart(cfg: DictConfig, folder: Path) -> float | None:
    """Runs the job in a process of its own; returns what the sweep optimises, None unless it finished.

    It raises nothing but KeyboardInterrupt: what went wrong is in job.json.
    """
    hydra = HydraConfig.get()
    if (
        Sweep.folder is None and "joblib" in hydra.launcher._target_
    ):  # one of its processes, which would outlive the sweep
        end_with_parent()
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
        code = process.wait()
    except KeyboardInterrupt:  # by Ctrl-C the terminal has told the child, too
        if Sweep.terminated:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(b"end")
                process.stdin.flush()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:  # a child that is stopped, too, which would not see that its parent ends
            process.kill()
            process.wait()
        if read(folder).state == RUNNING:
            begun.ended(INTERRUPTED, "interrupted").write(folder)
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):  # of what was not read, which would hide that the sweep is to end
            process.stdin.close()  # which ends a child that is still there
    outcome = read(folder)
    if outcome.state == RUNNING:
        outcome = outcome.ended(FAILED, died(code))
    outcome = replace(outcome, seconds=round(time.monotonic() - started, 1))
    outcome.write(folder)
    return outcome.value if outcome.state == FINISHED else None
