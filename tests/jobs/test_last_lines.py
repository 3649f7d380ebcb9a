"""What the last lines of a job name: files that are there, and commands that work when they are pasted.

All of it in a folder whose name shells, SQLAlchemy and Hydra would like to read otherwise, with a configuration folder
of one's own, and without the environment's programs on the path.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ODD = "what? now's 50%25 $HOME"
COMMON = ["--config-dir", "my conf", "dataset=mine", "data_shape=64", "batch_size=4", "training.samples=1",
          "metric.worst_images=1", "device.threads=1"]  # fmt: skip
COMMAND = re.compile(r"(?:MLFLOW_TRACKING_URI=|\S*python -m ssd|\S*mlflow |\S*tensorboard ).*")
LABEL = re.compile(r"^\w[\w ]* {2,}")
PLACE = re.compile(r"(?:\w[\w ]{0,12} +(?=/)|(?:leaderboard|table|chart) +)(.*)")
BARE = {**os.environ, "PATH": "/usr/bin:/bin", "COLUMNS": "200", "MLFLOW_DISABLE_TELEMETRY": "true"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("work") / ODD
    (work / "my conf" / "dataset").mkdir(parents=True)
    (work / "my conf" / "dataset" / "mine.yaml").write_text(
        "defaults: [shapes, _self_]\nname: mine\ntrain: 12\nval: 4\nimage_size: 48\n"
    )
    return work


def ssd(folder: Path, *overrides: str) -> str:
    flags = ["-m"] if "seed=0,1" in overrides else []
    done = subprocess.run(
        [sys.executable, "-m", "ssd.run", *flags, *COMMON, *overrides],
        cwd=folder,
        env=BARE,
        text=True,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def trained(folder: Path) -> str:
    """What a training with every logger said; its run directory is `run`."""
    return ssd(folder, "epochs=1", "hydra.run.dir=run")


def commands(said: str) -> list[str]:
    lines = [LABEL.sub("", line) for line in said.splitlines()]
    return [match[0] for line in lines if (match := COMMAND.search(line))]


def paste(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["bash", "-c", command], cwd=folder, env=BARE, text=True, capture_output=True, timeout=600)


def check_places(said: str, folder: Path) -> list[Path]:
    """Every line that names a file or folder names one that is there."""
    lines = [line for line in said.splitlines() if not COMMAND.search(LABEL.sub("", line))]
    found = [folder / match[1] for line in lines if (match := PLACE.fullmatch(line))]
    assert [path for path in found if not path.exists()] == []
    return found


def test_training(trained: str, folder: Path) -> None:
    names = {path.name for path in check_places(trained, folder)}
    assert {"run", "metrics.csv", "images", "report.html"} <= names
    assert any(name.endswith(".params") for name in names)


def test_commands_of_a_training(trained: str, folder: Path) -> None:
    serve, board, ui = (next(command for command in commands(trained) if name in command)
                        for name in ("models serve", "tensorboard", "mlflow ui"))  # fmt: skip
    (uri,) = [
        override.partition("=")[2] for override in shlex.split(serve) if override.startswith("MLFLOW_TRACKING_URI=")
    ]
    assert shlex.split(ui)[1:] == ["ui", "--backend-store-uri", uri]
    done = paste(f"{board} --inspect", folder)
    assert "final/map_11pt" in done.stdout, done.stderr
    # Of the server and the page, what they need: the store is found, and the model in it.
    model = shlex.split(serve)[shlex.split(serve).index("-m") + 1]
    program = shlex.join(shlex.split(serve)[1:2])
    done = paste(f"MLFLOW_TRACKING_URI={shlex.quote(uri)} {program} artifacts download -u {model} -d got", folder)
    assert (folder / "got" / "MLmodel").is_file(), done.stderr
    assert (folder / "outputs" / "mlflow" / "mlflow.db").is_file()
    assert {path.name for path in folder.parent.iterdir()} == {ODD}  # nothing lies beside it


@pytest.mark.parametrize(
    "overrides",
    [
        ["job=eval", "model=run", "logger=[csv,tensorboard]"],
        ["job=eval", "model=run", "logger=[]", "training.samples=0"],
        ["job=deploy", "model=run", "deploy.measure=false", "deploy.images=1"],
        ["job=check", "job.samples=1"],
        ["job=check", "check.overfit=1", "check.steps=400"],
        ["job=prepare"],
        ["job=compare", "job.runs=[run,run2]"],
        ["job=clean"],
        ["job=benchmark", "job.seconds=0.01", "job.rounds=1", "job.batches=[1]"],
        ["epochs=1", "logger=[]", "training.samples=0"],
    ],
)
def test_places_of_other_jobs(overrides: list[str], trained: str, folder: Path) -> None:
    if "job=compare" in overrides:
        ssd(folder, "epochs=1", "seed=1", "logger=[]", "hydra.run.dir=run2")
    found = check_places(ssd(folder, *overrides), folder)
    assert found or overrides[0] in ("job=prepare", "job=clean", "job=deploy") or "check.overfit=1" in overrides


@pytest.mark.parametrize("save", ["[images,json,csv]", "[yolo,voc,coco]"])
def test_demo(save: str, trained: str, folder: Path) -> None:
    (source,) = folder.glob("outputs/datasets/*/JPEGImages")
    said = ssd(folder, "job=demo", "model=run", f"source={source}", f"job.save={save}", "job.frames=2")
    assert len(check_places(said, folder)) == len(save.split(","))


def test_the_command_of_anchors(folder: Path) -> None:
    for number in range(2):  # the second time with a recipe of the first
        said = ssd(folder, "job=anchors", f"hydra.run.dir=fit {number}")
    check_places(said, folder)
    (command,) = commands(said)
    done = paste(f"{command} --cfg job", folder)
    assert done.returncode == 0, done.stderr
    assert "name: mine" in done.stdout
    sizes = [line.strip() for line in (folder / "fit 1" / "experiments" / "anchors.yaml").read_text().splitlines()]
    first = re.findall(r"[\d.]+", next(line for line in sizes if line.startswith("- [")))[0]
    assert f"- {first}\n" in done.stdout


def test_the_command_of_an_interrupted_training_and_of_a_store_that_is_gone(folder: Path) -> None:
    overrides = ["logger=[console,mlflow]", "logger.mlflow.tracking_uri=http://127.0.0.1:9", "epochs=200",
             "logger.mlflow.flush_seconds=0", "hydra.run.dir=a run"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "ssd.run", *COMMON, *overrides], cwd=folder, env=BARE, text=True,
                               stderr=subprocess.PIPE)  # fmt: skip
    assert process.stderr
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("epoch 1/"):
            process.send_signal(signal.SIGINT)
    assert process.wait(60) == 75
    send, resume = (next(one for one in commands(said) if what in one) for what in ("unsent", "resume="))
    done = paste(send, folder)
    assert done.returncode == 2
    assert done.stderr.startswith("error: http://127.0.0.1:9 does not answer")
    assert len(done.stderr.splitlines()) == 1
    without = re.sub(r" \S*logger\.mlflow\.tracking_uri=\S+", "", resume)  # a key of the logger that is left out
    done = paste(f"{without} epochs=8 logger=[]", folder)
    assert done.returncode == 0, done.stderr
    assert "resuming at step" in done.stderr


def test_a_training_can_be_repeated(trained: str, folder: Path) -> None:
    """With its configuration folder, and without keys of loggers that are no longer chosen."""
    done = subprocess.run([sys.executable, "-m", "ssd.run", "rerun=run", "logger=[]", *COMMON[:2], "job=prepare"],
                          cwd=folder, env=BARE, text=True, capture_output=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_sweep(folder: Path) -> None:
    said = ssd(folder, "seed=0,1", "epochs=1", "logger=[]", "hydra.sweep.dir=sweep")
    names = {path.name for path in check_places(said, folder)}
    assert {"leaderboard.md", "leaderboard.csv", "leaderboard.png"} <= names
