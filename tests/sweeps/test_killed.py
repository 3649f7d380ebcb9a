"""Sweeps that are ended from outside, for real."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ssd.sweeps.job import ENDING
from ssd.sweeps.outcome import read_all

SPACE = "optimizer.learning_rate=tag(log,interval(0.001,0.1))"
HANGS = ["+logger.acts._target_=acts.Acts", "+logger.acts.kind=hangs"]  # in the middle of its training


@pytest.mark.slow
def test_kill_minus_nine_and_the_same_command_again(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    """The trial hangs when the sweep is killed; the next sweep replaces it."""
    overrides = ["hydra/sweeper=optuna", "hydra.sweeper.study_name=killed", "hydra.sweeper.n_trials=2", SPACE,
             *HANGS]  # fmt: skip
    process = start(*overrides)
    folder = tmp_path / "outputs" / "multirun" / "killed"
    first = folder / "0_small_128_shapes"
    try:
        wait_for(lambda: (first / "metrics.csv").is_file())
        child = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not any(alive(pid) for pid in child))  # nothing trains on without its sweep
    finally:
        process.kill()
    assert json.loads((first / "job.json").read_text())["state"] == "running"
    # The same overrides, but what hung does so no more.
    (tmp_path / "acts.py").write_text((tmp_path / "acts.py").read_text().replace("sleep(600)", "sleep(0)"))
    again = start(*overrides)
    said = again.communicate(timeout=900)[1]
    assert again.returncode == 0, said
    assert "trial 0 was interrupted" in said
    assert [outcome.state for outcome in read_all(folder).values()] == ["interrupted", "finished", "finished"]
    assert "the sweep was killed" in (folder / "leaderboard.md").read_text()


@pytest.mark.slow
def test_ctrl_c_ends_the_job_and_makes_the_leaderboard(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    process = start("hydra.sweep.dir=sweep", "seed=0,1", *HANGS)
    wait_for(lambda: (tmp_path / "sweep" / "0_small_128_shapes" / "metrics.csv").is_file())
    for pid in [*children(process.pid), process.pid]:  # as a terminal does
        os.kill(pid, signal.SIGINT)
    said = process.communicate(timeout=900)[1]
    assert process.returncode == 1
    assert said.splitlines()[-1] == "interrupted"
    assert [outcome.state for outcome in read_all(tmp_path / "sweep").values()] == ["interrupted"]
    assert "- interrupted: " in (tmp_path / "sweep" / "leaderboard.md").read_text()


JOBLIB = ["hydra/launcher=joblib", "sweep.parallel=2"]
OPTUNA = ["hydra/sweeper=optuna", "hydra.sweeper.study_name=ended", "hydra.sweeper.n_trials=9", SPACE]


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True], ids=["the sweep alone", "its jobs, too"])
@pytest.mark.parametrize(
    "overrides",
    [["seed=0,1"], [*JOBLIB, "seed=0,1,2"], OPTUNA, [*OPTUNA, *JOBLIB]],
    ids=["plain", "joblib", "optuna", "optuna with joblib"],
)
def test_sigterm_saves_the_jobs_and_makes_the_leaderboard(
    overrides: list[str], group: bool, start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    """However the jobs are launched: all that were begun are interrupted and saved, and no other one is begun."""
    process = start("hydra.sweep.dir=sweep", *overrides, "epochs=5000")
    count = 2 if set(JOBLIB) <= set(overrides) else 1
    try:
        wait_for(lambda: len(list(tmp_path.glob("sweep/*/metrics.csv"))) == count)
        for pid in [*descendants(process.pid) * group, process.pid]:
            os.kill(pid, signal.SIGTERM)
        said = process.communicate(timeout=900)[1]
    finally:
        process.kill()
    assert process.returncode == 1, said
    assert said.splitlines()[-1] == "interrupted"
    assert [outcome.state for outcome in read_all(tmp_path / "sweep").values()] == ["interrupted"] * count
    for job in tmp_path.glob("sweep/*/job.json"):
        assert "resume=" in json.loads(job.read_text())["reason"]
    assert "- interrupted: " in (tmp_path / "sweep" / "leaderboard.md").read_text()
    assert "running" not in (tmp_path / "sweep" / "leaderboard.md").read_text()
    assert not (tmp_path / "sweep" / ENDING).exists()


def descendants(pid: int) -> list[int]:
    return [below for child in children(pid) for below in [*descendants(child), child]]


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").is_file() and bool(Path(f"/proc/{pid}/cmdline").read_bytes())
