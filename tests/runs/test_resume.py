"""Which run resume= means, and the command line around it: overrides, exit codes, signals, disks that say no."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ssd.checkpoint.index import read_index
from ssd.config.compose import compose
from ssd.config.targets import confined
from ssd.run import main, rerun_overrides
from ssd.runs.resume import check_same, command, differences, resume_overrides
from ssd.utils.atomic_files import try_file_lock
from ssd.utils.errors import UserError

TINY = [
    "dataset.train=16", "dataset.val=4", "dataset.image_size=64", "data_shape=64", "batch_size=4", "training.samples=1",
    "metric.worst_images=0", "loader.workers=0", "logger=[csv]",
]  # fmt: skip


def made(folder: Path, *overrides: str, finished: bool = False, states: str | None = "ssd-0001.states") -> Path:
    """A run directory as an interrupted training leaves it, but for the arrays."""
    (folder / "checkpoints").mkdir(parents=True)
    OmegaConf.save(compose(overrides), folder / "config.yaml", resolve=True)
    entry = {"epoch": 1, "step": 4, "params": "ssd-0001.params", "states": states, "sha256": {}, "best": None}
    index = {"kept": [entry], "last": entry, "finished": finished, "words": list(overrides)}
    (folder / "checkpoints" / "checkpoints.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "outputs" / "train" / "small_128_shapes"


def test_no_resume_leaves_the_overrides_alone() -> None:
    for overrides in ([], ["epochs=2"], ["resume=null", "epochs=2"]):
        assert resume_overrides(overrides) == overrides


def test_a_run_of_another_job_cannot_be_resumed(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- job=eval\n- model=x\n")
    with pytest.raises(UserError, match="a run of job=eval, no training"):
        resume_overrides([f"resume={tmp_path}"])


def test_keys_of_a_group_that_is_chosen_anew_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    saved = "- logger=[mlflow]\n- logger.mlflow.experiment=pets\n- +logger.x=1\n- epochs=3\n"
    (tmp_path / ".hydra" / "overrides.yaml").write_text(saved)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    assert resume_overrides([f"resume={tmp_path}", "logger=[]"])[:2] == ["epochs=3", "logger=[]"]
    assert resume_overrides([f"resume={tmp_path}"])[:2] == ["logger=[mlflow]", "logger.mlflow.experiment=pets"]
    assert rerun_overrides([f"rerun={tmp_path}", "logger=[]"])[0] == "epochs=3"


def test_a_run_brings_its_own_overrides_and_directory(tmp_path: Path) -> None:
    run = made(tmp_path / "a=b 'c'", "batch_size=4", "optimizer=sgd", "seed=3")
    overrides = resume_overrides([f"resume={run}", "epochs=9", "seed=4"])
    quoted = str(run).replace("'", "\\'")
    assert overrides[:4] == ["batch_size=4", "optimizer=sgd", "epochs=9", "seed=4"]
    assert overrides[4:] == [f"resume='{quoted}'", f"hydra.run.dir='{quoted}'"]
    cfg = compose(overrides[:5])
    assert (cfg.batch_size, cfg.optimizer.name, cfg.epochs, cfg.resume) == (4, "sgd", 9, str(run))


def test_a_run_killed_before_its_first_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- batch_size=4\n- resume=auto\n- +dataset.x=1\n")
    assert resume_overrides([f"resume={tmp_path}"])[:2] == ["batch_size=4", "+dataset.x=1"]


@pytest.mark.parametrize("overrides", [["resume=nowhere"], ["-m", "resume=auto", "seed=1,2"]])
def test_what_cannot_be_resumed(overrides: list[str], outputs: Path) -> None:
    with pytest.raises(UserError, match="resume="):
        resume_overrides(overrides)


def test_auto_takes_the_newest_that_fits(outputs: Path) -> None:
    overrides = ["batch_size=4", "resume=auto"]
    assert resume_overrides(overrides) == overrides
    older = made(outputs / "1", "batch_size=4")
    newer = made(outputs / "2", "batch_size=4", "epochs=7", "logger=csv", "training.log_every=3")
    for number, (others, options) in enumerate(
        [
            (["batch_size=8"], {}),
            (["batch_size=4", "optimizer=sgd"], {}),
            (["batch_size=4"], {"finished": True}),
            (["batch_size=4"], {"states": None}),
        ]
    ):
        made(outputs / f"3{number}", *others, **options)
    for place, run in enumerate(sorted(outputs.iterdir())):
        os.utime(run / "checkpoints" / "checkpoints.json", (place, place))
    assert f"resume='{newer.relative_to(Path.cwd())}'" in resume_overrides(overrides)
    with try_file_lock(newer / ".lock", "x"):  # somebody is at work on it
        assert f"resume='{older.relative_to(Path.cwd())}'" in resume_overrides(overrides)
    (newer / "checkpoints" / "checkpoints.json").write_text("{")
    assert f"resume='{older.relative_to(Path.cwd())}'" in resume_overrides(overrides)
    assert "batch_size=4" in resume_overrides(overrides)


def test_differences() -> None:
    saved = OmegaConf.create(OmegaConf.to_container(compose(["epochs=3"]), resolve=True))
    saved.dataset.classes = ["circle"]
    saved.dropped = 1
    free = ["epochs=5", "max_hours=1", "device.ids=[0,1]", "early_stopping.patience=3", "logger=[]", "loader.workers=0"]
    same = compose(free)
    same.dataset.classes = None
    assert list(differences(saved, same)) == []
    assert ("head.min_filter", 128, 64) in list(differences(saved, compose(["head.min_filter=64"])))
    record = compose(["loader=record", "loader.workers=1"])
    assert [key for key, _, _ in differences(record, compose(["loader=record", "loader.workers=2"]))] == [
        "loader.workers"
    ]


def test_contradictions_are_told_in_one_line(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "batch_size=4")
    check_same(run, compose(["batch_size=4", "epochs=99"]))
    with pytest.raises(UserError, match=r"resume=.*run: batch_size=8 here, 4 in that run; .*init.weights="):
        check_same(run, compose(["batch_size=8"]))


def test_the_command_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(tmp_path / "outputs" / "my run").endswith("python -m ssd.run 'resume=outputs/my run'")
    # What names code is not taken from the run's files, so the command says it again.
    with confined(["epochs=3", "dataset._target_=mine.Mine"]):
        assert command(tmp_path / "run").endswith("python -m ssd.run resume=run dataset._target_=mine.Mine")


def test_an_output_folder_that_cannot_be(outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """As on a read-only file system, which root could write to all the same."""
    outputs.parents[1].write_text("a file where the folder belongs")
    monkeypatch.setattr(sys, "argv", ["ssd", *TINY])
    for name in ("HYDRA_FULL_ERROR", "SSD_FULL_ERROR"):  # main() sets them
        monkeypatch.setenv(name, "0")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("error: ")
    assert said[-1].endswith("Not a directory")


def start(folder: Path, *overrides: str, limit: str = "unlimited") -> "subprocess.Popen[str]":
    """limit: of the size of files, in blocks of 1024 bytes."""
    program = f"ulimit -f {limit}; exec {sys.executable} -m ssd.run " + " ".join(
        f"'{override}'" for override in overrides
    )
    return subprocess.Popen(
        ["bash", "-c", program], cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
def test_signals_and_going_on_by_the_command_line(tmp_path: Path) -> None:
    """SIGTERM to the whole process group, workers included, as a cluster sends it; then the printed command."""
    overrides = [*TINY, "loader.workers=2", "epochs=400"]
    process = start(tmp_path, *overrides)
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob("outputs/train/*/*/metrics.csv")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=900)[1]
    assert process.returncode == 75, said
    last = said.splitlines()[-1]
    assert last.startswith("SIGTERM: stopped and saved after step ")
    assert "Traceback" not in said
    message = last.split("python -m ssd.run ")[1]
    (run,) = tmp_path.glob("outputs/train/*/*")
    index = read_index(run / "checkpoints" / "checkpoints.json")
    epochs = index["last"]["epoch"] + 1
    process = start(tmp_path, message, f"epochs={epochs}", "loader.workers=0")
    said = process.communicate(timeout=900)[1]
    assert process.returncode == 0, said
    assert f"resuming at step {index['last']['step']} of {4 * epochs}" in said
    assert [folder.name for folder in tmp_path.glob("outputs/train/*/*")] == [run.name]
    assert "batch_size=4" in (run / ".hydra" / "overrides.yaml").read_text()
    # auto finds nothing unfinished any more; a new run, which a full disk ends in one line.
    process = start(tmp_path, *overrides, "resume=auto", "epochs=2", limit="600")
    said = process.communicate(timeout=900)[1]
    assert "no unfinished run of this configuration" in said
    assert process.returncode == 2, said
    error = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert "cannot write" in error[0]
    assert "File too large" in error[0]
    assert "Traceback" not in said


def test_records_may_lie_elsewhere_when_a_run_goes_on(outputs: Path) -> None:
    run = made(outputs / "run")
    check_same(run, compose(["training.records=elsewhere"]))
