"""A training that is interrupted and resumed ends as one that was not, to the last bit."""

import csv
import json
import logging
import math
import random
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssd.checkpoint.index import read_index
from ssd.checkpoint.store import Checkpoints
from ssd.config.compose import compose
from ssd.config.parts import trainer_config
from ssd.data.loaders.fast import FastLoader
from ssd.evaluation.measure import evaluate
from ssd.jobs import train, training_evaluation
from ssd.mxnet_compat import mx
from ssd.tracking.events import Events
from ssd.training.guards import Guards
from ssd.training.hooks import Checkpointing
from ssd.training.losses import StepLosses, read_losses
from ssd.training.precision import prepare
from ssd.training.progress import pack
from ssd.training.trainer import Trainer
from ssd.utils.errors import InterruptedRun, UserError

TINY = [
    "dataset.train=17", "dataset.val=4", "dataset.image_size=64", "data_shape=64", "batch_size=4", "epochs=3",
    "training.samples=1", "training.log_every=3", "metric.worst_images=0", "loader.workers=0", "logger=[csv]",
]  # fmt: skip
STEPS = 4  # of an epoch
TIMES = ("train/images_per_second", "train/data_wait", "val/seconds")

Train = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """run(name, overrides…): trains in tmp_path/name; resume=True resumes it; stop_at: a signal comes in that step."""
    monkeypatch.chdir(tmp_path)

    def do(name: str, *overrides: str, resume: bool = False, stop_at: int | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if stop_at is not None:
            interrupt_at(stop_at, monkeypatch)
        train.run(compose([*TINY, *overrides, *([f"resume={folder}"] if resume else [])]), folder)
        return folder

    return do


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM while the step is taken."""
    take = Trainer.backward

    def taken(self: Trainer, batch: object, number: int, probe: object) -> object:
        if number == step - 1:
            monkeypatch.setattr(Trainer, "backward", take)
            signal.raise_signal(signal.SIGTERM)
        return take(self, batch, number, probe)

    monkeypatch.setattr(Trainer, "backward", taken)


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as opened:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(opened)]


def assert_same(first: Path, second: Path) -> None:
    for file in ("metrics.csv", "steps.csv"):
        assert rows(first / file) == rows(second / file), file
        assert len(rows(first / file)) > 1
    indices = [read_index(folder / "checkpoints" / "checkpoints.json") for folder in (first, second)]
    for name in ("best", "last"):
        assert indices[0][name]["params"] == indices[1][name]["params"]
        assert indices[0][name]["sha256"]["params"] == indices[1][name]["sha256"]["params"]
    assert json.loads((first / "metrics.json").read_text()) == json.loads((second / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("overrides", "stops"),
    [
        (["optimizer=adam", "augment=ssd"], [1, 6]),
        (["optimizer=sgd", "schedule=step"], [STEPS]),  # at the end of an epoch, before its validation
        (["optimizer=rmsprop", "device.ids=[0,1]"], [7]),
        (["optimizer=adadelta", "compat=mxnet_ssd"], [6]),
        (["guard.non_finite=skip", "training.validate_every=2", "checkpoint.keep.last=1", "seed=5"], [5, 6, 7]),
        (["loader=record", "loader.workers=1"], [6]),
        (["training.ema=0.9", "head=ssd_bn", "augment=ssd_plus", "augment.multi_scale.factors=[1.0,1.5]"], [3, 6]),
        (["training.accumulate=2", "device.ids=[0,1]", "guard.non_finite=skip"], [6]),
        (["training.ema=0.9", "optimizer=adam", "device.ids=[0,1]", "guard.non_finite=skip"], [5]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_an_interrupted_run_ends_like_any_other(overrides: list[str], stops: list[int], run: Train) -> None:
    whole = run("whole", *overrides)
    for count, step in enumerate(stops):
        with pytest.raises(InterruptedRun, match=f"stopped and saved after step {step}; go on with: .* resume=parts"):
            run("parts", *overrides, resume=count > 0, stop_at=step)
        index = read_index(whole.parent / "parts" / "checkpoints" / "checkpoints.json")
        assert (index["last"]["step"], index["finished"]) == (step, False)
    assert_same(whole, run("parts", *overrides, resume=True))


def test_interrupted_in_bfloat16(run: Train) -> None:
    overrides = ["training.precision=bfloat16", "training.accumulate=2", "training.ema=0.9"]
    try:
        prepare(trainer_config(compose(overrides)))
    except UserError as error:
        pytest.skip(str(error))
    whole = run("whole", *overrides)
    with pytest.raises(InterruptedRun):
        run("parts", *overrides, stop_at=6)
    assert_same(whole, run("parts", *overrides, resume=True))
    assert "precision: bfloat16" in (whole / "config.yaml").read_text()


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_several_devices_that_update_by_themselves(kind: str, run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters of more than 16 million numbers do so; here it is asked for."""
    monkeypatch.setenv("MXNET_UPDATE_ON_KVSTORE", "0")
    overrides = [f"optimizer={kind}", "device.ids=[0,1]"]
    whole = run("whole", *overrides)
    with pytest.raises(InterruptedRun):
        run("parts", *overrides, stop_at=6)
    assert_same(whole, run("parts", *overrides, resume=True))


def test_interrupted_in_validation(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("whole")
    calls = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return evaluate(*arguments)

    monkeypatch.setattr(training_evaluation, "evaluate", interrupted)
    with pytest.raises(InterruptedRun, match="SIGINT"):
        run("parts")
    monkeypatch.setattr(training_evaluation, "evaluate", evaluate)
    assert (whole.parent / "parts" / "checkpoints" / f"ssd-0001+{STEPS}.params").is_file()
    assert len(rows(whole.parent / "parts" / "metrics.csv")) == 1
    assert_same(whole, run("parts", resume=True))


def test_killed_between_two_checkpoints(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written after the last checkpoint is not there twice."""
    whole = run("whole", "checkpoint.every_steps=5")
    die_at(9, monkeypatch)
    with pytest.raises(SystemError):
        run("parts", "checkpoint.every_steps=5")
    monkeypatch.undo()
    monkeypatch.chdir(whole.parent)
    assert [row["step"] for row in rows(whole.parent / "parts" / "steps.csv")] == ["3", "6"]
    with pytest.raises(InterruptedRun):
        run("parts", "checkpoint.every_steps=5", resume=True, stop_at=9)
    assert_same(whole, run("parts", resume=True))


def die_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In that step the process ends as if killed: nothing is saved any more."""
    fail_at(step, SystemError("as if killed"), monkeypatch)
    monkeypatch.setattr(Checkpointing, "rescue", lambda self: None)


def fail_at(step: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Trainer.backward

    def taken(self: Trainer, batch: object, number: int, probe: object) -> object:
        if number == step - 1:
            raise error
        return take(self, batch, number, probe)

    monkeypatch.setattr(Trainer, "backward", taken)


def test_killed_before_the_first_checkpoint(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("whole")
    die_at(4, monkeypatch)
    with pytest.raises(SystemError):
        run("parts")
    monkeypatch.undo()
    monkeypatch.chdir(whole.parent)
    assert_same(whole, run("parts", resume=True))


def test_a_damaged_checkpoint_costs_some_steps_only(run: Train, caplog: pytest.LogCaptureFixture) -> None:
    whole = run("whole")
    with pytest.raises(InterruptedRun):
        run("parts", stop_at=10)
    folder = whole.parent / "parts" / "checkpoints"
    last = folder / "ssd-0002+2.params"
    last.write_bytes(last.read_bytes()[:1000])
    assert_same(whole, run("parts", resume=True))
    assert "checksum differs" in caplog.text
    assert "resuming from the one before, step 8" in caplog.text


def test_a_run_can_be_made_longer(run: Train, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    folder = run("run", "epochs=1")
    with pytest.raises(UserError, match="finished, all 1 epochs are done; more of them go on: epochs="):
        run("run", "epochs=1", resume=True)
    run("run", "epochs=2", "training.log_every=1", "logger=[]", resume=True)
    assert [row["epoch"] for row in rows(folder / "metrics.csv")] == ["1", "2"]
    assert "resuming at step 4 of 8" in caplog.text
    # The rate is what a run of two epochs has at that step: not zero, as at the end of one.
    assert float(rows(folder / "metrics.csv")[1]["train/learning_rate"]) > 0


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["batch_size=8"], "batch_size=8 here, 4 in that run"),
        (["backbone=mobilenet_025"], "backbone.name=mobilenet_025 here, small in that run"),
        (["dataset.classes=[circle,rectangle]"], "dataset.classes="),
        (["optimizer=sgd"], "optimizer.name=sgd here, adam"),
        (["dataset.train=16", "dataset.val=5"], "dataset.train=16 here, 17"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_contradicts_is_named(overrides: list[str], part: str, run: Train, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRun):
        run("run", stop_at=1)
    with pytest.raises(UserError, match=part) as error:
        run("run", *overrides, resume=True)
    assert "\n" not in str(error.value)


def test_other_images_under_the_same_name(run: Train, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRun):
        run("run", stop_at=1)
    first = sorted(tmp_path.glob("outputs/datasets/*/ImageSets/Main/train.txt"))[0]
    first.write_text("".join(f"{name}\n" for name in first.read_text().split()[:-1]))
    with pytest.raises(UserError, match="no longer those this run was trained on"):
        run("run", resume=True)


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """spoiled(n): every n-th loss from here on is not a number."""

    def spoil(every: int) -> None:
        count = 0

        def read(*arguments: object) -> StepLosses:
            nonlocal count
            count += 1
            losses = read_losses(*arguments)  # type: ignore[arg-type]
            return losses if count % every else replace(losses, cross_entropy_sum=math.nan)

        monkeypatch.setattr("ssd.training.trainer.read_losses", read)

    return spoil


def test_a_loss_that_is_not_finite_stops_or_is_skipped(
    run: Train, spoiled: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    spoiled(7)
    with pytest.raises(
        UserError, match=r"the loss is not finite .* in epoch 2, step 7; images: .*\.jpg.*; saved after step 6; "
    ):
        run("run")
    spoiled(7)
    folder = run("skipped", "guard.non_finite=skip")
    assert "step 7 skipped, number 1" in caplog.text
    assert all(math.isfinite(float(row["train/loss"])) for row in rows(folder / "metrics.csv"))
    spoiled(2)
    with pytest.raises(UserError, match="not finite .*, and 2 steps were skipped before in epoch 2, step 6"):
        run("run", "guard.non_finite=skip", "guard.max_skipped=2")


def test_time_and_patience_end_a_run_with_a_report(run: Train, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    folder = run("late", "max_hours=1e-6")
    assert "training ends early: max_hours=1e-06 are over" in caplog.text
    assert [row["step"] for row in rows(folder / "metrics.csv")] == ["1"]
    assert (folder / "report.html").is_file()
    assert read_index(folder / "checkpoints" / "checkpoints.json")["finished"]
    whole = run("whole")
    run("late", resume=True)  # with more time it goes on
    assert rows(folder / "metrics.csv") == rows(whole / "metrics.csv")
    folder = run("patient", "early_stopping.patience=1", "early_stopping.min_delta=1.0", "epochs=9")
    assert "no better than" in caplog.text
    assert len(rows(folder / "metrics.csv")) == 2


def test_a_checkpoint_of_version_0_1_is_resumed(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """When guards were all that had a state. Without it this run would be longer."""
    overrides = ["early_stopping.patience=1", "early_stopping.min_delta=1.0", "epochs=9"]
    whole = run("whole", *overrides)

    def old(facts: dict[str, Any]) -> Any:
        rest = {name: value for name, value in facts.items() if name != "hooks"}
        return pack(rest | {"guards": facts["hooks"]["guards"]})

    monkeypatch.setattr("ssd.training.train_state.pack", old)
    with pytest.raises(InterruptedRun):
        run("parts", *overrides, stop_at=STEPS + 1)
    monkeypatch.setattr("ssd.training.train_state.pack", pack)
    assert_same(whole, run("parts", *overrides, resume=True))


OUT_OF_MEMORY = mx.base.MXNetError(
    "Traceback (most recent call last):\n  File x\nMXNetError: cudaMalloc failed: out of memory"
)


@pytest.mark.parametrize(
    ("place", "error", "raised", "line"),
    [
        ("loader", UserError("image 3 is gone"), UserError, "image 3 is gone; saved after step 5; go on with: "),
        ("forward", MemoryError(), UserError, "memory is exhausted (MemoryError); saved after step 5; go on with: "),
        ("forward", OUT_OF_MEMORY, UserError, "cudaMalloc failed: out of memory); saved after step 5; go on with: "),
        (
            "loader",
            RuntimeError("of a hook\nof mine"),
            RuntimeError,
            "RuntimeError: of a hook; saved after step 5; ",
        ),
        ("told", KeyboardInterrupt(), KeyboardInterrupt, "KeyboardInterrupt; saved after step 5; go on with: "),
        ("told", SystemExit(3), SystemExit, "SystemExit: 3; saved after step 5; go on with: "),
    ],
    ids=lambda value: value if isinstance(value, str) and ";" not in value else "",
)
def test_whatever_ends_a_training_saves_first(
    place: str,
    error: BaseException,
    raised: type[BaseException],
    line: str,
    run: Train,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """forward: when the statistics of batch normalizations have changed already, and random numbers were drawn."""
    overrides = ["head=ssd_bn", "training.ema=0.9"]
    whole = run("whole", *overrides)
    calls = 0

    def fails(take: Callable[..., Any], at: int, before: bool) -> Callable[..., Any]:
        def taken(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if before and calls == at:
                raise error
            found = take(*arguments)
            if calls == at:
                random.random(), np.random.random()
                raise error
            return found

        return taken

    if place == "loader":
        monkeypatch.setattr(FastLoader, "next", fails(FastLoader.next, 7, True))  # one of them ended the epoch before
    elif place == "forward":
        monkeypatch.setattr("ssd.training.trainer.read_losses", fails(read_losses, 6, False))
    else:
        monkeypatch.setattr(Events, "progress", fails(Events.progress, 5, False))
    with pytest.raises(raised) as found:
        run("parts", *overrides)
    monkeypatch.undo()
    monkeypatch.chdir(whole.parent)
    assert line in (str(found.value) if isinstance(found.value, UserError) else caplog.text)
    assert "\n" not in str(found.value) or not isinstance(found.value, UserError)
    assert_same(whole, run("parts", *overrides, resume=True))


def test_parameters_that_a_step_was_changing_are_not_saved(
    run: Train, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run("whole", "checkpoint.every_steps=3")
    update = mx.optimizer.Adam.update

    def fails(self: Any, index: int, *arguments: Any) -> None:
        if self.num_update == 6 and index == 5:
            raise RuntimeError("half a step")
        update(self, index, *arguments)

    monkeypatch.setattr(mx.optimizer.Adam, "update", fails)
    with pytest.raises(RuntimeError, match="half a step"):
        run("parts", "checkpoint.every_steps=3")
    assert (
        "half a step; what was learned cannot be saved: a step failed while it changed "
        "the parameters, which are not saved; step 4 is saved; go on with: "
    ) in caplog.text
    monkeypatch.undo()
    monkeypatch.chdir(whole.parent)
    assert read_index(whole.parent / "parts" / "checkpoints" / "checkpoints.json")["last"]["step"] == 4
    assert_same(whole, run("parts", resume=True))


def test_what_fails_in_a_validation_costs_the_validation_only(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("whole")
    calls = []

    def fails(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise UserError("an image of val is gone")
        return evaluate(*arguments)

    monkeypatch.setattr(training_evaluation, "evaluate", fails)
    with pytest.raises(UserError, match=r"an image of val is gone; saved after step 8; go on with: .* resume=parts"):
        run("parts")
    assert_same(whole, run("parts", resume=True))


@pytest.mark.parametrize(("at", "step"), [(1, 4), (3, 12)], ids=["an epoch's", "the last"])
def test_a_checkpoint_that_cannot_be_written_is_tried_once_more(
    at: int, step: int, run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is that of the epoch, with its validation."""
    whole = run("whole")
    fail_to_write(monkeypatch, {at})
    with pytest.raises(UserError, match=rf"^full; saved after step {step}; go on with: "):
        run("parts")
    monkeypatch.undo()
    monkeypatch.chdir(whole.parent)
    assert read_index(whole.parent / "parts" / "checkpoints" / "checkpoints.json")["last"]["epoch"] == step // STEPS
    assert_same(whole, run("parts", resume=True))


def fail_to_write(monkeypatch: pytest.MonkeyPatch, calls: set[int]) -> None:
    """Of all indices of checkpoints, those of so many checkpoints, counted from 1; the file before stays."""
    write, count = Checkpoints._write_index, 0

    def fails(self: Checkpoints) -> None:
        nonlocal count
        count += 1
        if count in calls:
            raise UserError("full")
        write(self)

    monkeypatch.setattr(Checkpoints, "_write_index", fails)


def test_the_last_whole_checkpoint_stays_when_no_other_can_be_written(
    run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("whole", "checkpoint.every_steps=3")
    fail_to_write(monkeypatch, {4, 5})
    with pytest.raises(UserError, match=r"^full; tried twice; go on with: .* resume=parts"):
        run("parts", "checkpoint.every_steps=3")
    monkeypatch.undo()
    monkeypatch.chdir(whole.parent)
    index = read_index(whole.parent / "parts" / "checkpoints" / "checkpoints.json")
    assert index["last"]["step"] == 6
    assert_same(whole, run("parts", resume=True))


def test_what_fails_behind_the_last_step_is_made_up_for(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report, or what a user's logger is asked for."""
    whole = run("whole")
    monkeypatch.setattr(training_evaluation, "report", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("parts")
    monkeypatch.undo()
    monkeypatch.chdir(whole.parent)
    assert_same(whole, run("parts", resume=True))


def test_a_run_whose_directory_is_removed_claims_nothing(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Trainer.backward

    def removed(self: Trainer, batch: object, number: int, probe: object) -> object:
        if number == 5:
            shutil.rmtree("run")
        return take(self, batch, number, probe)

    monkeypatch.setattr(Trainer, "backward", removed)
    with pytest.raises(UserError) as error:
        run("run")
    assert re.search(
        r"cannot write .*/run/checkpoints/ssd-0002.params: No such file or directory; nothing is saved: .*json is gone",
        str(error.value),
    )
    assert "step" not in str(error.value)
    assert "go on with" not in str(error.value)


def test_what_a_guard_calls_diverged_is_not_saved(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Trainer.backward

    def taken(self: Trainer, batch: object, number: int, probe: object) -> object:
        if number == 5:
            monkeypatch.setattr(Guards, "count", lambda self, losses: "the loss explodes")
        return take(self, batch, number, probe)

    monkeypatch.setattr(Trainer, "backward", taken)
    with pytest.raises(UserError, match=r"the loss explodes in epoch 2, step 6; .*last good checkpoint is .*0001"):
        run("run")
    assert read_index(Path("run/checkpoints/checkpoints.json"))["last"]["step"] == 4
