"""Real sweeps, as small as they get, and sweep folders made by hand."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssd.sweeps.outcome import Outcome

ROOT = Path(__file__).resolve().parents[2]
TINY = ["dataset.train=4", "dataset.val=2", "batch_size=2", "epochs=1", "device.threads=1", "loader.workers=0",
        "training.samples=0", "metric.worst_images=0", "logger=[]"]  # fmt: skip

# A logger that does what its `kind` says after the first epoch.
LOGGER = """
import os, signal, time
from ssd.tracking.events import Writer

class Acts(Writer):
    def __init__(self, kind):
        self.kind = kind

    def start(self, run):
        (run.folder / "cores").write_text(" ".join(map(str, os.sched_getaffinity(0))))

    def epoch(self, epoch, step, values):
        if self.kind == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "hangs":
            time.sleep(600)
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """start(overrides…) begins a sweep of tiny trainings in tmp_path, where the module acts.py is found."""
    (tmp_path / "acts.py").write_text(LOGGER)
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}

    def run(*overrides: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "ssd.run", "-m", *TINY, *overrides],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


@pytest.fixture
def sweep(tmp_path: Path, start: Callable[..., "subprocess.Popen[str]"]) -> Callable[..., tuple[int, str, Path]]:
    """sweep(overrides…) runs such a sweep into tmp_path/sweep; returns exit code, what was said, its folder."""

    def run(*overrides: str) -> tuple[int, str, Path]:
        process = start("hydra.sweep.dir=sweep", *overrides)
        said = process.communicate(timeout=900)[1]
        return process.returncode, said, tmp_path / "sweep"

    return run


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """job(number, overrides, state=…, value=…) makes the folder of a job; metrics and epochs are files' contents."""

    def make(number: int, overrides: Sequence[str], metrics: str = "", epochs: str = "", **fields: Any) -> Path:
        folder = tmp_path / f"{number}_job"
        replace(Outcome(number, list(overrides)), **fields).write(folder)
        for name, text in (("metrics.json", metrics), ("metrics.csv", epochs)):
            if text:
                (folder / name).write_text(text)
        return folder

    return make
