import logging
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.errors import InterruptedRun, UserError
from ssd.tracking import Events, Writer, make_writers
from ssd.tracking.events import apart, finite

LOGGERS = Path(__file__).resolve().parents[2] / "conf" / "logger"


class Recorder(Writer):
    """Remembers what it was told."""

    def __init__(self, place: str | None = None) -> None:
        self.heard: list[tuple] = []
        self.place = place

    def step(self, epoch, step, values):
        self.heard.append(("step", epoch, step, values))

    def epoch(self, epoch, step, values):
        self.heard.append(("epoch", epoch, step, values))

    def close(self, status, metrics):
        self.heard.append(("close", status, metrics))

    def where(self):
        return self.place


class Broken(Recorder):
    def step(self, epoch, step, values):
        raise OSError("disk full\nsecond line")


def tell_everything(events: Events, run) -> None:
    events.start(run)
    events.progress(1, 1, {})
    events.step(1, 1, {"train/loss": 2.0})
    events.image("val/sample", np.zeros((4, 4, 3), np.uint8), 1)
    events.curve("val/pr/cat", np.ones(1), np.ones(1), np.ones(1), 1, 1)
    events.artifact(run.folder)
    events.message("hello")
    events.epoch(1, 1, {"train/loss": 2.0})
    events.close("finished", {"map_11pt": 0.5})


def test_writer_hears_what_is_told(run):
    recorder = Recorder()
    tell_everything(Events({"recorder": recorder, "silent": Writer()}), run)
    assert recorder.heard == [
        ("step", 1, 1, {"train/loss": 2.0}),
        ("epoch", 1, 1, {"train/loss": 2.0}),
        ("close", "finished", {"map_11pt": 0.5}),
    ]


def test_no_writers(run):
    tell_everything(Events({}), run)


def test_broken_writer_is_named_once_and_left_out(run, caplog):
    broken, recorder = Broken(), Recorder()
    events = Events({"mlflow": broken, "recorder": recorder})
    for step in (1, 2, 3):
        events.step(1, step, {"train/loss": 1.0})
    events.close("finished", {})
    assert broken.heard == []
    assert [call[0] for call in recorder.heard] == ["step", "step", "step", "close"]
    assert [record.getMessage() for record in caplog.records] == [
        "mlflow stopped recording: OSError: disk full; training goes on"
    ]


@pytest.mark.parametrize(("error", "status"), [
    (None, "finished"),
    (ValueError, "failed"),
    (UserError, "failed"),
    (KeyboardInterrupt, "interrupted"),
    (InterruptedRun, "interrupted"),
])  # fmt: skip
def test_context_closes_with_the_status_that_fits(error, status):
    recorder = Recorder()

    def body():
        with Events({"recorder": recorder}) as events:
            events.epoch(1, 10, {"val/map_11pt": 0.4})
            if error:
                raise error("stop")

    if error:
        with pytest.raises(error):
            body()
    else:
        body()
    assert recorder.heard[-1] == ("close", status, {"val/map_11pt": 0.4})


def test_closed_inside_is_not_closed_again():
    recorder = Recorder()
    with Events({"recorder": recorder}) as events:
        events.close("finished", {"map_11pt": 0.7})
    assert recorder.heard == [("close", "finished", {"map_11pt": 0.7})]


def test_where_names_those_that_know():
    events = Events({"a": Recorder("here"), "b": Recorder()})
    assert events.where() == {"a": "here"}


@pytest.mark.parametrize("loggers", [None, {}])
def test_no_loggers_no_writers(loggers):
    assert make_writers(loggers) == {}


def test_every_logger_of_the_configuration_can_be_made():
    names = sorted(path.stem for path in LOGGERS.glob("*.yaml"))
    cfg = OmegaConf.merge(*(OmegaConf.load(LOGGERS / f"{name}.yaml") for name in names))
    writers = make_writers(cfg)
    assert sorted(writers) == names == ["console", "csv", "mlflow", "tensorboard"]
    assert all(isinstance(writer, Writer) for writer in writers.values())


@pytest.mark.parametrize(("options", "message"), [
    ({"_target_": "ssd.tracking.files.StepsCsv", "fiel": "x"}, "logger.mine: .*unexpected keyword argument 'fiel'"),
    ({"_target_": "ssd.tracking.nowhere.Csv"}, "logger.mine: .*nowhere"),
    ({"_target_": "pathlib.Path"}, "logger.mine is no logger"),
    ({"file": "x"}, "logger.mine is no logger"),
])  # fmt: skip
def test_wrong_logger_is_one_line(options, message):
    with pytest.raises(UserError, match=message) as caught:
        make_writers({"mine": options})
    assert "\n" not in str(caught.value)


def test_user_error_of_a_writer_stays_itself():
    options = {"_target_": "ssd.tracking.mlflow.MLflow", "tracking_uri": "file:./mlruns", "artifacts": "a",
               "experiment": "e", "flush_seconds": 1, "retry_seconds": 1}  # fmt: skip
    with pytest.raises(UserError, match=r"tracking_uri=file:./mlruns: .*sqlite:///"):
        make_writers({"mlflow": options})


def test_epoch_values_apart_from_step_values():
    assert apart({"train/loss": 1.0, "val/map_11pt": 0.5}) == {"train_epoch/loss": 1.0, "val/map_11pt": 0.5}


def test_finite():
    assert finite({"a": 1, "b": float("nan"), "c": float("inf"), "d": 0.5}) == {"a": 1.0, "d": 0.5}


def test_forwarding_is_silent_when_all_is_well(run, caplog):
    with caplog.at_level(logging.DEBUG):
        tell_everything(Events({"recorder": Recorder()}), run)
    assert not caplog.records
