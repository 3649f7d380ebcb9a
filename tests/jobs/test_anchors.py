"""job=anchors by the real command line, and its recipe used as it says."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ssd.config.compose import compose


def run(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssd.run", *overrides], cwd=folder, env=dict(os.environ), capture_output=True, text=True,
        timeout=900,
    )  # fmt: skip


SHAPES = ["dataset.train=60", "dataset.val=8", "dataset.max_objects=6"]


@pytest.fixture(scope="module")
def suggested(tmp_path_factory) -> tuple[Path, Path, str]:
    """(working folder, run directory, what was said): anchors for shapes, from a head that suits none of them."""
    folder = tmp_path_factory.mktemp("anchors")
    bad = "head.sizes=[[0.02,0.03,0.04],[0.05,0.06],[0.9,0.95]]"
    done = run(folder, "job=anchors", *SHAPES, bad)
    assert done.returncode == 0, done.stderr
    return folder, next(folder.glob("outputs/anchors/*/*")), done.stderr


def test_the_recipe_works_as_printed(suggested):
    folder, run_folder, said = suggested
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert metrics["matched_before"] < 0.2
    assert metrics["matched"] > 0.95
    command = next(line for line in said.splitlines() if line.startswith("train with")).removeprefix("train with")
    python, flag, module, *overrides = shlex.split(command)
    assert (Path(python).name, flag, module) == ("python", "-m", "ssd.run")
    done = run(folder, *overrides, "job=check", "job.samples=1")
    assert done.returncode == 0, done.stderr
    report = json.loads((next(folder.glob("outputs/check/*/*")) / "check.json").read_text())
    assert report["anchors"]["share"] == pytest.approx(metrics["matched"], abs=1e-6)
    assert report["anchors"]["anchors"] == 1600  # the network has kept its shape


def test_the_overrides_give_the_same_head(suggested):
    _, run_folder, said = suggested
    line = next(line for line in said.splitlines() if line.startswith("as overrides"))
    by_overrides = compose(shlex.split(line.removeprefix("as overrides"))).head
    by_recipe = compose([f"hydra.searchpath=['{run_folder}']", "experiments=anchors"]).head
    assert by_overrides == by_recipe


def test_a_split_without_boxes_is_one_line(suggested, tmp_path):
    folder, _, _ = suggested
    done = run(folder, "job=anchors", *SHAPES, "job.split=nowhere")
    assert done.returncode == 2
    assert "dataset.splits.nowhere is not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_choice_beside_a_config_dir_is_one_line(suggested):
    folder, run_folder, _ = suggested
    done = run(folder, f"--config-dir={run_folder}", "experiments=anchor")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: experiments=anchor: no such choice")
