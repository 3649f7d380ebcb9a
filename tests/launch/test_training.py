"""Trainings on two workers and a parameter server, all on this machine, as a user would start them."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ssd.checkpoint.index import read_index

STEPS = 80
OVERRIDES = [
    "dataset.train=33", "dataset.val=4", "dataset.image_size=64", "data_shape=64", "batch_size=8", "epochs=20",
    "training.validate_every=20", "training.samples=0", "training.log_every=4", "training.ema=0.9",
    "metric.worst_images=0", "logger=[csv]", "augment=ssd", "optimizer=sgd", "optimizer.learning_rate=0.005",
    "loader.workers=0", "device.threads=1",
]  # fmt: skip
NAMES_CODE = ["backbone.network={_target_: plain_network.build, filters: [8, 8, 16, 16]}"]
OVERRIDES += NAMES_CODE
# Without BatchNorm, whose statistics are of the images of one worker.
NETWORK = """
from ssd.mxnet_compat import mx


def build(data, filters):
    for index, width in enumerate(filters, start=1):
        data = mx.sym.Convolution(data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), num_filter=width, name=f"conv{index}")
        data = mx.sym.Activation(data, act_type="relu", name=f"stage{index}_2_relu")
    return data
"""
TIMES = ("train/images_per_second", "train/data_wait", "val/seconds")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of this module are, each in the directory of its name."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "plain_network.py").write_text(NETWORK)
    return folder


@pytest.fixture(scope="module")
def start(place: Path) -> Iterator[Start]:
    """start(override…): the process of a training, in a group of its own that ends with the module's tests."""
    processes = []

    def begin(*overrides: str, **variables: str) -> "subprocess.Popen[str]":
        path = os.pathsep.join([str(place), *filter(None, sys.path)])
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "ssd.run", *overrides],
                cwd=place,
                text=True,
                stderr=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": path} | variables,
                start_new_session=True,
            )  # fmt: skip
        )
        return processes[-1]

    yield begin
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ended(process: "subprocess.Popen[str]", code: int) -> str:
    """What a process has said on standard error; it has ended, with this code and all of its children."""
    _, errors = process.communicate(timeout=900)  # which is when the last one has closed it
    assert process.returncode == code, errors
    return errors


@pytest.fixture(scope="module")
def two(place: Path, start: Start) -> Path:
    """A whole run on two workers."""
    errors = ended(start(*OVERRIDES, "cluster=local", "hydra.run.dir=two"), 0)
    assert "cluster: 2 workers, 1 server that" in errors
    assert re.search(r"epoch 20: \d+\.\d images/s by 2 workers together", errors)
    return place / "two"


def rows(file: Path) -> list[dict[str, float]]:
    with open(file, newline="") as opened:
        return [{name: float(value) for name, value in row.items() if name not in TIMES and value}
                for row in csv.DictReader(opened)]  # fmt: skip


def until_step(run: Path, process: "subprocess.Popen[str]", step: int) -> None:
    file = run / "steps.csv"
    deadline = time.monotonic() + 600
    while not file.is_file() or not (found := rows(file)) or found[-1]["step"] < step:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def worker(process: "subprocess.Popen[str]") -> int:
    """Its only child that trains, too: the last one that it has started."""
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "ssd.jobs.worker_process"], capture_output=True, text=True
    )
    return max(map(int, found.stdout.split()))


def assert_same(first: Path, second: Path) -> None:
    for file in ("metrics.csv", "steps.csv"):
        assert rows(first / file) == rows(second / file), file
    indices = [read_index(folder / "checkpoints" / "checkpoints.json") for folder in (first, second)]
    assert indices[0]["last"]["step"] == STEPS
    assert indices[0]["last"]["sha256"]["params"] == indices[1]["last"]["sha256"]["params"]


@pytest.mark.slow
def test_two_workers_learn_as_one(two: Path, start: Start) -> None:
    ended(start(*OVERRIDES, "hydra.run.dir=one"), 0)
    both, alone = rows(two / "steps.csv"), rows(two.parent / "one" / "steps.csv")
    losses = [[row["train/loss"] for row in part] for part in (both, alone)]
    assert len(losses[0]) == STEPS // 4
    assert losses[0][:10] == pytest.approx(losses[1][:10], rel=1e-4)
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert losses[0][-1] < 0.9 * losses[0][0]


@pytest.mark.slow
def test_a_killed_worker_ends_the_run_which_goes_on_as_if_nothing_had_been(two: Path, start: Start) -> None:
    run = two.parent / "killed"
    process = start(*OVERRIDES, "cluster=local", "hydra.run.dir=killed")
    until_step(run, process, 20)
    os.kill(worker(process), signal.SIGKILL)
    line = ended(process, 69).splitlines()[-1]
    match = re.match(r"error: worker 1 \(.*, process \d+\) is gone: killed by SIGKILL.*; saved after step (\d+); "
                     r"go on with: .*python -m ssd.run resume=killed '(.*)'$", line)  # fmt: skip
    assert match, line
    assert [match[2]] == NAMES_CODE
    assert read_index(run / "checkpoints" / "checkpoints.json")["last"]["step"] == int(match[1]) >= 20
    ended(start("resume=killed", *NAMES_CODE), 0)
    assert_same(two, run)


@pytest.mark.slow
def test_a_worker_that_hangs_is_named_and_the_run_goes_on_as_if_nothing_had_been(two: Path, start: Start) -> None:
    run = two.parent / "hung"
    process = start(*OVERRIDES, "cluster=local", "cluster.patience_s=8", "hydra.run.dir=hung")
    until_step(run, process, 20)
    os.kill(worker(process), signal.SIGSTOP)
    lines = ended(process, 69).splitlines()
    name = r"worker 1 \(.*, process \d+\)"
    assert any(re.match(rf"waiting \d+ s for {name}: no sign of life$", line) for line in lines), lines
    assert re.match(rf"error: cluster.patience_s=8: waited so long for {name}: no sign of life; saved after step \d+; "
                    r"go on with: .*python -m ssd.run resume=hung ", lines[-1])  # fmt: skip
    ended(start("resume=hung", *NAMES_CODE), 0)
    assert_same(two, run)


@pytest.mark.slow
def test_ctrl_c_saves_and_the_run_goes_on_alone(two: Path, start: Start) -> None:
    """Everybody hears it, as everybody does who was started from a terminal."""
    run = two.parent / "interrupted"
    process = start(*OVERRIDES, "cluster=local", "hydra.run.dir=interrupted")
    until_step(run, process, 20)
    os.killpg(process.pid, signal.SIGINT)
    line = ended(process, 75).splitlines()[-1]
    assert re.match(r"SIGINT: stopped and saved after step \d+; go on with: .*python -m ssd.run resume=interrupt", line)
    ended(start("resume=interrupted", "cluster=none", *NAMES_CODE), 0)
    losses = [[row["train/loss"] for row in rows(part / "steps.csv")] for part in (two, run)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


@pytest.mark.slow
def test_worker_0_is_killed(two: Path, start: Start) -> None:
    process = start(*OVERRIDES, "cluster=local", "hydra.run.dir=headless")
    until_step(two.parent / "headless", process, 8)
    process.kill()
    assert "worker 0 is gone, so this one ends" in ended(process, -signal.SIGKILL)


@pytest.mark.slow
def test_by_ssh(two: Path, start: Start) -> None:
    """Which is a program here that says what it was asked and does it."""
    fake = two.parent / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$3" >> {two.parent}/asked\nexec sh -c "$4"\n')
    fake.chmod(0o755)
    overrides = [*OVERRIDES, "cluster=ssh", "cluster.hosts=[127.0.0.1,localhost]", "hydra.run.dir=ssh"]
    ended(start(*overrides, PATH=f"{fake.parent}:{os.environ['PATH']}"), 0)
    assert (two.parent / "asked").read_text().split() == ["localhost", "localhost"]  # a server and a worker
    assert_same(two, two.parent / "ssh")


@pytest.mark.slow
def test_as_tasks_of_a_slurm_job(two: Path, start: Start) -> None:
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NODELIST": "localhost",
           "SLURM_NODEID": "0"}  # fmt: skip
    runs = set((two.parent / "outputs").glob("train/*/*"))
    tasks = [start(*OVERRIDES, "cluster=slurm", "hydra.run.dir=slurm", **job, SLURM_PROCID=rank, SLURM_LOCALID=rank)
             for rank in "01"]  # fmt: skip
    for task in tasks:
        ended(task, 0)
    assert_same(two, two.parent / "slurm")
    assert set((two.parent / "outputs").glob("train/*/*")) == runs  # task 1 writes nothing
