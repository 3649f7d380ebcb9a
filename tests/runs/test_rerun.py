"""rerun=RUN: what is saved counts, new overrides change it; and the same configuration gives the same numbers."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from ssd.config.compose import compose
from ssd.runs.rerun import as_saved, changed, saved_overrides
from ssd.utils.errors import UserError

TIMES = {"train/images_per_second", "train/data_wait", "val/seconds"}
TREES = st.recursive(
    st.integers(0, 3), lambda node: st.dictionaries(st.sampled_from("abcd"), node, max_size=3), max_leaves=8
).filter(lambda tree: isinstance(tree, dict))


def test_new_overrides_win_and_everything_else_is_as_saved() -> None:
    saved = {"rate": 0.1, "head": {"sizes": [1, 2], "steps": 3}, "classes": ["dog"], "gone": 1, "opt": {"beta": 9}}
    then = {"rate": 0.5, "head": {"sizes": [1], "steps": 3}, "classes": None, "new": 7, "opt": {"beta": 9}, "epochs": 1}
    now = {"rate": 0.5, "head": {"sizes": [1], "steps": 4}, "classes": None, "new": 7, "opt": {"wd": 1}, "epochs": 2}
    assert changed(saved, then, now) == {
        "rate": 0.1,  # a default that has changed since then
        "head": {"sizes": [1, 2], "steps": 4},
        "classes": ["dog"],  # found by the run
        "gone": 1,  # a key that no longer exists: the schema will refuse it if it must
        "new": 7,  # a key that did not exist
        "opt": {"wd": 1},  # another choice of a group
        "epochs": 2,
    }


@given(TREES, TREES)
def test_without_new_overrides_the_saved_values_stay(saved: dict[str, Any], then: dict[str, Any]) -> None:
    result = changed(saved, then, then)
    for key, value in saved.items():
        if not isinstance(value, dict) or not isinstance(then.get(key), dict):
            assert result[key] == value


@given(TREES, TREES)
def test_a_run_of_today_becomes_what_the_overrides_say(then: dict[str, Any], now: dict[str, Any]) -> None:
    assert changed(then, then, now) == now


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """run(overrides, **values): a run directory of these overrides, saved with other values than today's."""

    def make(overrides: list[str], **values: Any) -> Path:
        cfg = compose(overrides)
        for key, value in values.items():
            OmegaConf.update(cfg, key.replace("__", "."), value)
        (tmp_path / ".hydra").mkdir()
        OmegaConf.save(cfg, tmp_path / "config.yaml", resolve=True)
        OmegaConf.save(OmegaConf.create(overrides), tmp_path / ".hydra" / "overrides.yaml")
        return tmp_path

    return make


def again(run: Path, *overrides: str) -> DictConfig:
    said = [f"rerun={run}", *overrides]
    return as_saved(compose([*saved_overrides(said), *said]))


def test_changed_defaults_change_nothing(run: Callable[..., Path]) -> None:
    folder = run(["backbone=small", "optimizer=sgd"], optimizer__momentum=0.5, detection__nms_threshold=0.3, seed=3)
    cfg = again(folder)
    assert (cfg.optimizer.name, cfg.optimizer.momentum, cfg.detection.nms_threshold, cfg.seed) == ("sgd", 0.5, 0.3, 3)
    cfg = again(folder, "optimizer.momentum=0.8", "backbone=mobilenet_025")
    assert (cfg.optimizer.momentum, cfg.detection.nms_threshold) == (0.8, 0.3)
    assert cfg.backbone == compose(["backbone=mobilenet_025"]).backbone
    assert cfg.head == compose(["backbone=mobilenet_025"]).head
    cfg = again(folder, "optimizer=adam")
    assert "momentum" not in cfg.optimizer


def test_a_rerun_can_be_rerun(run: Callable[..., Path]) -> None:
    folder = run(["rerun=somewhere", "epochs=7"], epochs=7)
    assert again(folder).epochs == 7


def test_a_resumed_run_is_repeated_as_a_new_one(run: Callable[..., Path]) -> None:
    folder = run(["batch_size=4", "resume=outputs/train/somewhere"])
    assert again(folder).resume is None
    assert again(folder, "resume=elsewhere").resume == "elsewhere"


def test_no_rerun_changes_nothing() -> None:
    cfg = compose(["epochs=3"])
    assert as_saved(cfg) is cfg
    assert saved_overrides(["epochs=3"]) == saved_overrides(["rerun=null"]) == []


def test_what_is_no_run_is_told(tmp_path: Path, run: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="no run directory"):
        saved_overrides([f"rerun={tmp_path}"])
    folder = run([])
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text + "of_another_time: 1\n")
    with pytest.raises(UserError, match="of_another_time"):
        again(folder)


def ssd(folder: Path, *overrides: str, threads: int = 2) -> str:
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-m", "ssd.run", *overrides],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def numbers(run: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


@pytest.mark.slow
def test_two_runs_and_a_rerun_give_identical_metrics(tmp_path: Path) -> None:
    """With two threads and the default loader; another seed gives others. The rerun takes the threads of the run."""
    overrides = ["dataset.train=8", "dataset.val=4", "batch_size=4", "epochs=2", "augment=ssd_plus", "logger=[]",
             "optimizer.learning_rate=0.002", "metric.worst_images=0", "training.samples=0"]  # fmt: skip
    ssd(tmp_path, *overrides, "hydra.run.dir=first")
    ssd(tmp_path, *overrides, "hydra.run.dir=second")
    ssd(tmp_path, "rerun=first", "hydra.run.dir=third", threads=1)
    ssd(tmp_path, "rerun=first", "seed=1", "hydra.run.dir=fourth")
    first, second, third, fourth = (numbers(tmp_path / name) for name in ("first", "second", "third", "fourth"))
    assert first == second == third
    assert first[0]["train/loss"] != fourth[0]["train/loss"]
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("first", "second", "third")]
    assert metrics[0] == metrics[1] == metrics[2]
