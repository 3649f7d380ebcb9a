"""What conf/hydra offers beside Hydra's own choices."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ssd.config.compose import explain, lacks_plugin
from ssd.config.overrides import hydra_choices


def test_choices() -> None:
    assert hydra_choices("hydra/launcher") == ["basic", "joblib", "submitit_local", "submitit_slurm"]
    assert hydra_choices("hydra/sweeper") == ["basic", "optuna"]


@pytest.mark.parametrize(
    ("choice", "part"),
    [
        ("launcher=joblib", "n_jobs: 2"),
        ("launcher=submitit_local", "gpus_per_node: 0"),
        ("launcher=submitit_slurm", "gpus_per_node: null"),
        ("sweeper=optuna", "sqlite:///outputs/multirun/search/study.db"),
    ],
)
def test_the_configuration_is_ours(choice: str, part: str, tmp_path: Path) -> None:
    """Not the one that the packages bring under the same name; and printing it imports none of them."""
    overrides = ["--cfg", "all", "--resolve", "-p", f"hydra.{choice.split('=')[0]}", f"hydra/{choice}"]
    code = f"import sys; sys.argv[1:] = {overrides!r}\nfrom ssd.run import main; main()\n"
    code += "assert 'optuna' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert part in done.stdout


def test_gpus_are_asked_for() -> None:
    overrides = ["--cfg", "all", "--resolve", "-p", "hydra.launcher", "hydra/launcher=submitit_slurm", "device=gpu",
             "device.ids=[0,1,2]"]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "ssd.run", *overrides], capture_output=True, text=True, check=True)
    assert "gpus_per_node: 3" in done.stdout


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["hydra/sweeper=optun", "seed=0,1"], "did you mean 'optuna'?"),
        (["hydra/launcher=jobli", "seed=0,1"], "basic, joblib, submitit_local, submitit_slurm"),
        (["hydra/sweeper=optuna"], "nothing to search"),
        (["sweep.parallel=0", "seed=0,1"], "sweep.parallel=0: expected at least 1"),
        (["rerun=nowhere", "seed=0,1"], "rerun=nowhere: no run directory"),
    ],
)
def test_mistakes_end_a_sweep_in_one_line(
    overrides: list[str], part: str, start: Callable[..., subprocess.Popen]
) -> None:
    process = start(*overrides)
    said = process.communicate(timeout=900)[1]
    assert process.returncode == 2
    assert part in said
    assert len(said.splitlines()) == 1


def test_what_is_not_installed_is_recognized() -> None:
    assert lacks_plugin(ModuleNotFoundError("No module named 'optuna'", name="optuna"))
    assert lacks_plugin(RuntimeError("Unknown plugin class : 'hydra_plugins.hydra_joblib_launcher.x.JoblibLauncher'"))
    wrapped = ValueError("Error in call to target")
    wrapped.__cause__ = ModuleNotFoundError("No module named 'x'", name="hydra_plugins.hydra_submitit_launcher")
    assert lacks_plugin(wrapped)
    assert not lacks_plugin(RuntimeError("a bug"))
    assert not lacks_plugin(ModuleNotFoundError("No module named 'mine'", name="mine"))
    assert "hydra/sweeper=optun" in explain(ValueError("Could not find 'hydra/sweeper/optun'"), [])
