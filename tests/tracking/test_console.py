import io
import logging
import re
import sys

import pytest
from rich.console import Console as Terminal

from ssd.runs.results import Results
from ssd.tracking import Events, RunInfo
from ssd.tracking.console import Clock, Console, clock_text, headline, summary

VALUES = {"train/loss": 3.21, "train/images_per_second": 45.24, "train/data_wait": 0.034}


class Time:
    """Stands in for the clock."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "ssd.tracking.console")  # nobody listens, whatever tests before have configured
    time = Time()
    monkeypatch.setattr("ssd.tracking.console.time", time)
    return time


def console_on(file: io.StringIO, terminal: bool) -> Console:
    console = Console(refresh_seconds=0.25, plain_seconds=30)
    console.terminal = Terminal(file=file, force_terminal=terminal, width=100)
    return console


def plain(file: io.StringIO) -> str:
    """What was written, without colors and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n")


def drive(console: Console, run: RunInfo, time: Time) -> None:
    """Two epochs of 100 steps, one step a second, and 20 s of validation."""
    events = Events({"console": console})
    events.start(run)
    for epoch in (1, 2):
        for done in range(1, 101):
            time.now += 1
            events.progress(epoch, done, {"train/loss": 3.21})
            if done % 10 == 0:
                events.step(epoch, (epoch - 1) * 100 + done, VALUES)
        time.now += 20
        events.epoch(epoch, epoch * 100, {**VALUES, "val/map_11pt": 0.25, "val/map_area": 0.27, "val/ap_11pt/cat": 0.3})
    events.close(Results("finished", None, "val", "best", 2, 200, {"val/map_11pt": 0.25, "test/map_11pt": 0.125}))


EPOCH_1 = "epoch 1/2  loss 3.2100  val mAP 11pt 0.2500  mAP area 0.2700  45.2 img/s  1:59"


def test_without_a_terminal_a_line_now_and_then(run, time):
    file = io.StringIO()
    drive(console_on(file, terminal=False), run, time)
    assert file.getvalue().splitlines() == [
        "epoch 1/2  30/100  loss 3.210 45.2 img/s data 3% left 1:10 run 2:50",
        "epoch 1/2  60/100  loss 3.210 45.2 img/s data 3% left 0:40 run 2:20",
        "epoch 1/2  90/100  loss 3.210 45.2 img/s data 3% left 0:10 run 1:50",
        EPOCH_1,
        "epoch 2/2  30/100  loss 3.210 45.2 img/s data 3% left 1:10 run 1:21",
        "epoch 2/2  60/100  loss 3.210 45.2 img/s data 3% left 0:40 run 0:45",
        "epoch 2/2  90/100  loss 3.210 45.2 img/s data 3% left 0:10 run 0:11",
        EPOCH_1.replace("1/2", "2/2"),
        "finished after 4:00  val mAP 11pt 0.2500  test mAP 11pt 0.1250  (best checkpoint, epoch 2, step 200)",
    ]


def test_on_a_terminal_a_bar_that_leaves_a_line(run, time):
    file = io.StringIO()
    drive(console_on(file, terminal=True), run, time)
    shown = plain(file)
    assert "━" in shown
    assert "100/100 loss 3.210 45.2 img/s data 3%" in shown
    lines = [line for line in shown.splitlines() if line and "━" not in line]
    assert lines == [
        EPOCH_1,
        EPOCH_1.replace("1/2", "2/2"),
        "finished after 4:00  val mAP 11pt 0.2500  test mAP 11pt 0.1250  (best checkpoint, epoch 2, step 200)",
    ]


def test_lines_go_through_the_log_where_there_is_one(run, caplog):
    file = io.StringIO()
    console = console_on(file, terminal=False)
    with caplog.at_level(logging.INFO):
        console.start(run)
        console.message("weights: 50 of [52] found")
    assert caplog.messages == ["weights: 50 of [52] found"]
    assert file.getvalue() == ""


def test_log_lines_appear_whole_while_the_bar_moves(run, time, monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    console = console_on(file, terminal=True)
    console.start(run)
    console.progress(1, 50, VALUES)
    print("checkpoint 1 saved", file=sys.stderr)
    console.close(Results("interrupted"))
    lines = plain(file).splitlines()
    assert "checkpoint 1 saved" in lines
    assert sys.stderr is file
    assert lines[-1] == "interrupted after 0:00"


def test_job_without_epochs(run, time):
    file = io.StringIO()
    console = console_on(file, terminal=False)
    console.start(RunInfo("x", "eval", {}, run.folder, ["cat"], epochs=0, steps=40))
    for done in range(1, 41):
        time.now += 2
        console.progress(1, done, {})
    console.close(Results("finished", split="test", values={"test/map_11pt": 0.5, "test/map_area": 0.6}))
    assert file.getvalue().splitlines() == [
        "eval  15/40  left 0:50",
        "eval  30/40  left 0:20",
        "finished after 1:20  test mAP 11pt 0.5000  mAP area 0.6000",
    ]


def test_pace_leaves_the_first_step_out(time):
    clock = Clock(epochs=1, steps=10)
    time.now += 100  # slow first step
    clock.tick(1, 1)
    assert clock.left() == (None, None)
    time.now += 2
    clock.tick(1, 2)
    assert clock.left() == (16.0, 16.0)


def test_resumed_run_counts_from_where_it_begins(time):
    clock = Clock(epochs=10, steps=10)
    for done in (1, 2, 3):
        clock.tick(9, done)
        time.now += 1
    assert clock.left() == (7.0, 17.0)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (3675, "1:01:15")])
def test_clock_text(seconds, text):
    assert clock_text(seconds) == text


def test_headline_takes_either_name():
    assert headline({"val/AP": 0.3, "AP50": 0.5, "val/AP75": 0.2}) == "AP 0.3000  AP50 0.5000"


def test_summary_of_nothing():
    assert summary({}) == ""
