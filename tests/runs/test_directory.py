import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ssd.runs.directory import WRITTEN, check_directory
from ssd.utils.errors import UserError

Run = Callable[..., "subprocess.CompletedProcess[str]"]
TINY = [
    "dataset.train=8", "dataset.val=4", "dataset.image_size=64", "data_shape=64", "batch_size=4", "training.samples=1",
    "metric.worst_images=0", "loader.workers=0", "epochs=1", "backbone=small", "device.threads=1",
]  # fmt: skip


def saved(folder: Path, overrides: str = "- epochs=3\n") -> Path:
    """A run directory that ended before its first checkpoint."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(overrides)
    return folder


@pytest.mark.parametrize(
    "name", ["ssd.log", "checkpoints", ".hydra", ".lock", "tensorboard", "images/a.png", "pictures/a.png"]
)
@pytest.mark.parametrize("entire", [True, False])
def test_a_link_out_of_the_directory_is_refused(tmp_path: Path, name: str, entire: bool) -> None:
    run = tmp_path / "run"
    (run / name).parent.mkdir(parents=True)
    for target in ("../../elsewhere", "/nowhere", f"{run}2"):  # whether it is there or not
        (run / name).symlink_to(target)
        with pytest.raises(UserError, match=rf"{re.escape(name)}: is a link out of the run directory"):
            check_directory(run, entire)
        (run / name).unlink()


@pytest.mark.parametrize("entire", [True, False])
def test_a_pipe_is_refused(tmp_path: Path, entire: bool) -> None:
    os.mkfifo(tmp_path / "ssd.log")
    with pytest.raises(UserError, match="ssd.log: is a pipe"):
        check_directory(tmp_path, entire)


def test_a_resumed_run_is_looked_at_entirely(tmp_path: Path) -> None:
    (tmp_path / "run" / "own").mkdir(parents=True)  # what logger.tensorboard.folder= may name
    (tmp_path / "run" / "own" / "deep").symlink_to("..")
    check_directory(tmp_path / "run", entire=True)
    (tmp_path / "run" / "own" / "out").symlink_to("../..")
    check_directory(tmp_path / "run", entire=False)  # files of the user's own, where it is not known to be a run
    with pytest.raises(UserError, match="own/out: is a link"):
        check_directory(tmp_path / "run", entire=True)


def test_the_directory_itself_may_be_a_link_and_need_not_be_there(tmp_path: Path) -> None:
    saved(tmp_path / "disk" / "run")
    (tmp_path / "disk" / "run" / "best").symlink_to("checkpoints")  # inside
    (tmp_path / "outputs").symlink_to("disk")
    check_directory(tmp_path / "outputs" / "run", entire=True)
    check_directory(tmp_path / "new", entire=True)


@pytest.mark.parametrize("name", ["ssd.log", ".hydra"])
def test_nothing_is_written_before_it_is_refused(tmp_path: Path, run_in: Run, name: str) -> None:
    run, outside = saved(tmp_path / "ssd_run"), tmp_path / "outside"
    if name == ".hydra":
        (run / name).rename(outside)
    else:
        outside.write_text("alias ll=ls\n")
    (run / name).symlink_to(outside)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    for overrides in (["resume=ssd_run"], ["job=clean", "hydra.run.dir=${hydra:job.name}_run"]):
        done = run_in(tmp_path, *overrides)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert f"{name}: is a link out of the run directory" in done.stderr
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_the_jobs_of_an_existing_sweep_are_looked_at(tmp_path: Path, run_in: Run) -> None:
    job = tmp_path / "sweep" / "0_small"
    job.mkdir(parents=True)
    (job / "ssd.log").symlink_to("/nowhere/log")
    done = run_in(tmp_path, "-m", "job=clean", "hydra.sweep.dir=sweep")
    assert done.returncode == 2
    assert "0_small/ssd.log: is a link out of the run directory" in done.stderr
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["0_small"]


def test_all_that_a_training_writes_is_looked_at(tmp_path: Path, run_in: Run) -> None:
    done = run_in(tmp_path, *TINY, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert {"ssd.log", "checkpoints"} <= set(names)
    assert [name for name in names if not WRITTEN.fullmatch(name)] == []
