import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from ssd.config.compose import compose
from ssd.config.overrides import COMMAND
from ssd.data import Sample
from ssd.data.datasets.fingerprint import fingerprint
from ssd.data.inspection.problems import Problem
from ssd.jobs import provenance as module
from ssd.jobs.provenance import code_state, gather_provenance, sweep

SAMPLES = [Sample("1", Path("1.jpg"), 10, 10, np.zeros((1, 6), np.float32))]


def git(folder: Path, *overrides: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    return subprocess.run(
        ["git", *identity, *overrides], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    package = tmp_path / "ssd"
    package.mkdir()
    (package / "run.py").write_text("first\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return package


def test_commit_and_whether_files_differ_from_it(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "outputs").mkdir()
    (repository / "outputs" / "new").write_text("untracked files are no change of the code")
    assert code_state(repository) == {"git.commit": commit, "git.dirty": "false"}
    (repository / "run.py").write_text("second\n")
    assert code_state(repository) == {"git.commit": commit, "git.dirty": "true"}


def test_an_installed_package_inside_of_another_repository_has_no_commit(repository: Path, tmp_path: Path) -> None:
    installed = tmp_path / ".venv" / "ssd"
    installed.mkdir(parents=True)
    (installed / "run.py").write_text("")
    assert code_state(installed) == {}


def test_no_git_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert code_state(repository) == {}


def test_a_git_that_hangs_is_done_without(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = repository / "git"
    program.write_text("#!/bin/sh\nexec sleep 20\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{repository}:/usr/bin:/bin")
    monkeypatch.setattr(module, "TOOL_SECONDS", 0.2)
    assert code_state(repository) == {}


def test_facts_of_a_run() -> None:
    cfg = compose(["dataset.classes=[circle]"])
    found = gather_provenance(
        cfg, {"train": SAMPLES, "val": []}, {"train": [Problem("unusable", "a.xml", None, "not XML")]}
    )
    assert found["dataset.name"] == "shapes"
    assert found["dataset.hash.train"] == fingerprint(SAMPLES, ["circle"])
    assert (found["dataset.images.train"], found["dataset.images.val"]) == ("1", "0")
    assert len({found["dataset.hash"], found["dataset.hash.train"], found["dataset.hash.val"]}) == 3
    assert {"host", "system", "python", "mxnet", "numpy", "command"} <= set(found)
    assert found["dataset.skipped.train"] == "1 files, see problems.csv"
    assert "dataset.skipped.val" not in found
    assert found["device"].startswith("cpu [0]: ")
    assert all(isinstance(text, str) for text in found.values())


def test_a_run_alone_belongs_to_no_sweep() -> None:
    assert sweep() is None


def test_the_sweep_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.types import RunMode

    node = {
        "mode": RunMode.MULTIRUN,
        "sweep": {"dir": str(tmp_path)},
        "job": {"num": 3},
        "overrides": {"task": ["epochs=2", "backbone=small", "+optimizer.beta=0.9", "optimizer.momentum=0.9"]},
        "sweeper": {"params": {"optimizer.momentum": "0.8,0.9"}},
    }

    monkeypatch.setattr(HydraConfig, "initialized", staticmethod(lambda: True))
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: OmegaConf.create(node)))
    overrides = [
        "-m",
        "epochs=2",
        "backbone=small,mobilenet",
        "+optimizer.beta=interval(0.8, 0.9)",
        "hydra/sweeper=optuna",
    ]
    monkeypatch.setenv(COMMAND, json.dumps(overrides))
    found = sweep()
    assert found is not None
    assert (found.folder, found.number) == (tmp_path, 3)
    assert found.own == ["backbone=small", "+optimizer.beta=0.9", "optimizer.momentum=0.9"]
    assert found.swept == ["optimizer.momentum=0.8,0.9", "backbone=small,mobilenet",
                           "optimizer.beta=interval(0.8, 0.9)"]  # fmt: skip


def test_the_command_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND, json.dumps(["-m", "head.sizes=[[1, 2]]"]))
    assert gather_provenance(compose(["dataset.classes=[circle]"]), {}, {})["command"] == "ssd -m 'head.sizes=[[1, 2]]'"
