"""Running the grid, with an actor for the worker."""

import subprocess
import sys

import pytest

from ssd.benchmark import grid
from ssd.benchmark.grid import Network, Plan, measure_grid, run_task

SMALL, LARGE = Network("small", "128"), Network("vgg16_reduced", "300", ("backbone=vgg16_reduced", "data_shape=300"))


def plan(**changes):
    values = {
        "cfg": {}, "networks": [SMALL, LARGE], "formats": ["mxnet", "onnx"], "batches": [1, 8], "threads": [1, 2],
        "stage": "forward", "rounds": 3, "seconds": 0.1, "timeout": 5.0,
    }  # fmt: skip
    return Plan(**{**values, **changes})


@pytest.fixture
def asked(monkeypatch):
    """The tasks that a worker was asked; it answers that every call took 10 ms, but cannot do what is in `refuse`."""
    tasks = []

    def answer(task, threads, timeout):
        tasks.append({**task, "threads": threads})
        if task["do"] == "make":
            return {"error": "no such form"} if task["format"] == "onnx" and task["overrides"] else {"path": "there"}
        found = {str(batch): {"seconds": [0.01], "memory_mb": 100.0 + batch} for batch in task["batches"]}
        if threads == 2 and "8" in found:
            found["8"] = {"error": "too much"}
        return {"threads": threads or 4, "batches": found}

    monkeypatch.setattr(grid, "run_task", answer)
    return tasks


def test_every_cell_has_its_times_or_its_reason(asked):
    cells = measure_grid(plan())
    assert len(cells) == 2 * 2 * 2 * 2
    for item in cells:
        cell = item.cell
        if cell.network is LARGE and cell.format == "onnx":
            assert (item.error, item.seconds) == ("no such form", [])
        elif cell.threads == 2 and cell.batch == 8:
            assert (item.error, item.seconds) == ("too much", [])
        else:
            assert item.error == ""
            assert item.seconds == [0.01] * 3
            assert item.memory_mb == 100 + cell.batch


def test_rounds_are_interleaved_and_what_failed_is_not_asked_again(asked):
    measure_grid(plan(rounds=2, networks=[SMALL], formats=["mxnet"]))
    order = [(task["do"], task["threads"], task.get("batches")) for task in asked]
    assert order == [
        ("make", None, None),
        ("measure", 1, [1, 8]),
        ("measure", 2, [1, 8]),
        ("measure", 1, [1, 8]),
        ("measure", 2, [1]),
    ]


def test_the_number_of_threads_that_were_taken_is_told(asked):
    (item,) = measure_grid(plan(networks=[SMALL], formats=["mxnet"], batches=[1], threads=[None]))
    assert item.cell.threads == 4


@pytest.mark.parametrize(
    ("code", "timeout", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 600.0, "was killed by SIGKILL (out of memory?)"),
        ("import time; time.sleep(6000)", 2.0, "took longer than job.timeout=2 seconds"),
        ("import sys; sys.exit('disk full')", 600.0, "its process ended with exit code 1: disk full"),
        ("pass", 600.0, "its process ended with exit code 0: it said nothing"),
    ],
)
def test_a_worker_that_does_not_answer(code, timeout, reason, monkeypatch):
    monkeypatch.setattr(grid, "WORKER", [sys.executable, "-c", code])
    assert reason in run_task({"do": "make"}, None, timeout)["error"]


def test_the_worker_is_told_its_threads(monkeypatch):
    code = """
import json, os, sys
task = json.load(sys.stdin)
open(task["answer"], "w").write(json.dumps({"threads": os.environ["OMP_NUM_THREADS"], "do": task["do"]}))
"""
    monkeypatch.setattr(grid, "WORKER", [sys.executable, "-c", code])
    assert run_task({"do": "measure"}, 3, 600.0) == {"threads": "3", "do": "measure"}


def test_a_task_that_fails_is_one_line():
    done = run_task(
        {"do": "make", "cfg": {}, "overrides": ["backbone=nothing"], "format": "mxnet", "folder": "."}, None, 600.0
    )
    assert "nothing" in done["error"]
    assert "\n" not in done["error"]
    assert subprocess.list2cmdline(grid.WORKER).endswith("-m ssd.benchmark.worker")
