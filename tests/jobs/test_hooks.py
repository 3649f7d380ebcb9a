"""Hooks and loggers of a user's own, from the command line: the examples of their base classes, as they stand there."""

import inspect
import re
from pathlib import Path
from textwrap import dedent

import pytest

from ssd.checkpoint.index import read_index
from ssd.tracking.events import Writer
from ssd.training.hook import Hook

TINY = [
    "dataset.train=9", "dataset.val=3", "dataset.image_size=64", "data_shape=64", "batch_size=4", "epochs=2",
    "training.samples=0", "metric.worst_images=0", "loader.workers=0", "logger=[csv]", "device.threads=1",
]  # fmt: skip
RUN = "hydra.run.dir=run"


def example(base: type) -> str:
    """The class in the docstring of its base."""
    text = dedent(inspect.getdoc(base) or "")
    found = re.search(r"^    from ssd\..*?(?=^\S)", text, re.MULTILINE | re.DOTALL)
    assert found
    return dedent(found[0]).replace("'''", '"""')


def named(base: type) -> list[str]:
    """The overrides that the docstring names it with."""
    return re.findall(r"\+(?:hooks|logger)\.\S+", inspect.getdoc(base) or "")


def test_a_hook(ssd, tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(example(Hook))
    overrides = named(Hook)
    assert len(overrides) == 2
    done = ssd(*overrides, *TINY, RUN)
    assert done.returncode == 0, done.stderr
    header, first, second = (tmp_path / "run" / "metrics.csv").read_text().split()
    assert "train/smooth_loss" in header
    assert float(first.split(",")[header.split(",").index("train/smooth_loss")]) > 0
    # A saved run does not name code by itself.
    done = ssd("resume=run", "epochs=3")
    assert done.returncode == 2
    assert f"if you trust it, say it yourself: {overrides[0].lstrip('+')}" in done.stderr
    done = ssd("rerun=run")
    assert done.returncode == 2
    assert f"say it yourself: {overrides[0].lstrip('+')}" in done.stderr
    done = ssd("resume=run", "epochs=3", overrides[0])
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "metrics.csv").read_text().split()) == 4


def test_a_logger(ssd, tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(example(Writer))
    done = ssd(*named(Writer), *TINY, RUN)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"epoch 1: [\d.na]+\nepoch 2: [\d.na]+\n", (tmp_path / "run" / "mine.txt").read_text())


STATE = """
from ssd.training.hook import Hook
class Counts(Hook):
    def __init__(self, fail_at=None, strange=False):
        self.steps, self.epochs, self.calls = 0, 0, []
        self.fail_at, self.strange = fail_at, strange
    def __getattribute__(self, name):
        if name.startswith(("before_", "after_", "end_")):
            object.__getattribute__(self, "calls").append(name)
        return object.__getattribute__(self, name)
    def after_step(self, loop):
        if self.fail_at == loop.progress.step:
            raise RuntimeError("of mine")
        self.steps += 1
    def after_epoch(self, loop):
        self.epochs += 1
    def after_train(self, loop):
        print("counted", self.steps, self.epochs, *self.calls)
    def state_dict(self):
        return {"steps": self.steps, "epochs": self.epochs} | ({"x": object()} if self.strange else {})
    def load_state_dict(self, state):
        self.steps, self.epochs = state["steps"], state["epochs"]
"""
COUNTS = "+hooks.counts._target_=counts.Counts"
STEPS = 2  # of an epoch


def test_the_state_of_a_hook_survives_its_own_error(ssd, tmp_path: Path) -> None:
    (tmp_path / "counts.py").write_text(STATE)
    done = ssd(COUNTS, *TINY, RUN)
    assert done.returncode == 0, done.stderr
    calls = done.stdout.partition("counted ")[2].split()[2:]
    step = ["before_step", "after_backward", "after_update", "after_step"]
    epoch = ["before_epoch", *step * STEPS, "end_epoch", "after_epoch"]
    assert calls[: 1 + 2 * len(epoch) + 1] == ["before_train", *epoch * 2, "after_train"]
    done = ssd(COUNTS, "+hooks.counts.fail_at=3", *TINY, "hydra.run.dir=failed")
    assert done.returncode == 1
    assert "RuntimeError: of mine; saved after step 3; go on with: " in done.stdout + done.stderr
    assert COUNTS.lstrip("+") in done.stdout + done.stderr  # in the command
    assert read_index(tmp_path / "failed" / "checkpoints" / "checkpoints.json")["last"]["step"] == 3
    done = ssd("resume=failed", COUNTS, "+hooks.counts.fail_at=null")
    assert done.returncode == 0, done.stderr
    assert done.stdout.partition("counted ")[2].split()[:2] == ["3", "2"]  # it has not seen the step that it failed in


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["+hooks.mine._target_=counts.Nothing"], "hooks.mine: Error loading 'counts.Nothing'"),
        (["+hooks.mine._target_=counts.Hook.__name__.upper"], "hooks.mine is not a hook: it needs a _target_"),
        (["+hooks.mine=3"], "hooks.mine: Cannot instantiate"),
        ([COUNTS, "+hooks.counts.nothing=1"], "hooks.counts: "),
        ([COUNTS, "+hooks.counts.strange=true"], "hooks.counts: its state_dict() must be what JSON can hold"),
    ],
)
def test_what_is_no_hook(overrides: list[str], part: str, ssd, tmp_path: Path) -> None:
    (tmp_path / "counts.py").write_text(STATE)
    done = ssd(*overrides, *TINY, RUN)
    assert done.returncode == 2, done.stderr
    assert part in done.stderr
    assert done.stderr.count("\n") == 1
