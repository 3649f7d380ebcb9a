import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.runs.results import Results
from ssd.tracking import Events, Writer, make_writers
from ssd.tracking.events import Pruned, epoch_namespace, finite
from ssd.tracking.graph_nodes import GraphNode
from ssd.utils.errors import InterruptedRun, UserError

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

    def results(self, results):
        self.heard.append(("results", results))

    def close(self, results):
        self.heard.append(("close", results))

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
    events.histogram("weights/a", np.ones(3, np.float32), 1)
    events.graph([GraphNode("data", "Input", [], [(1, 3, 4, 4)], {})])
    events.artifact(run.folder)
    events.model(run.folder / "ssd-0001.params", Results(values={"val/map_11pt": 0.5}))
    events.message("hello")
    events.epoch(1, 1, {"train/loss": 2.0})
    events.results(Results(values={"val/map_11pt": 0.5}))
    events.close(Results("finished", values={"map_11pt": 0.5}))


def test_writer_hears_what_is_told(run):
    recorder = Recorder()
    tell_everything(Events({"recorder": recorder, "silent": Writer()}), run)
    assert recorder.heard == [
        ("step", 1, 1, {"train/loss": 2.0}),
        ("epoch", 1, 1, {"train/loss": 2.0}),
        ("results", Results(values={"val/map_11pt": 0.5})),
        ("close", Results("finished", values={"map_11pt": 0.5})),
    ]


def test_no_writers(run):
    tell_everything(Events({}), run)


def test_broken_writer_is_named_once_and_left_out(run, caplog):
    broken, recorder = Broken(), Recorder()
    events = Events({"mlflow": broken, "recorder": recorder})
    for step in (1, 2, 3):
        events.step(1, step, {"train/loss": 1.0})
    events.close(Results("finished"))
    assert broken.heard == []
    assert [call[0] for call in recorder.heard] == ["step", "step", "step", "close"]
    assert [record.getMessage() for record in caplog.records] == [
        "mlflow stopped recording: OSError: disk full; training goes on"
    ]


class Curious(Recorder):
    def wants_histograms(self, step):
        return re.compile(self.place) if step % 10 == 0 else None

    def histogram(self, tag, values, step):
        self.heard.append((tag, step))


class Fragile(Curious):
    def histogram(self, tag, values, step):
        raise OSError("disk full")


def test_producers_learn_what_anybody_wants():
    curious = Curious("^weights/")
    events = Events({"silent": Writer(), "a": curious, "b": Fragile("relu$")})
    assert events.wants_histograms(5) == []
    assert [pattern.pattern for pattern in events.wants_histograms(10)] == ["^weights/", "relu$"]
    events.histogram("weights/a", np.ones(3), 10)
    assert [pattern.pattern for pattern in events.wants_histograms(20)] == ["^weights/"]  # b is out
    assert curious.heard == [("weights/a", 10)]


@pytest.mark.parametrize(("error", "status"), [
    (None, "finished"),
    (ValueError, "failed"),
    (UserError, "failed"),
    (KeyboardInterrupt, "interrupted"),
    (InterruptedRun, "interrupted"),
    (Pruned, "pruned"),
])  # fmt: skip
def test_context_closes_with_the_status_that_fits(error, status):
    recorder = Recorder()
    best = Results(checkpoint="best", epoch=1, step=10, values={"val/map_11pt": 0.4})

    def body():
        with Events({"recorder": recorder}) as events:
            events.results(best)
            events.epoch(2, 20, {"val/map_11pt": 0.3})
            if error:
                raise error("stop")

    if error:
        with pytest.raises(error):
            body()
    else:
        body()
    closed = recorder.heard[-1][1]
    assert closed == replace(best, status=status, reason=closed.reason)
    assert closed.reason == {
        None: None,
        ValueError: "ValueError: stop",
        KeyboardInterrupt: "KeyboardInterrupt: stop",
    }.get(error, "stop")


def test_closed_inside_is_not_closed_again():
    recorder = Recorder()
    with Events({"recorder": recorder}) as events:
        events.close(Results("finished", values={"map_11pt": 0.7}))
    assert recorder.heard == [("close", Results("finished", values={"map_11pt": 0.7}))]


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
    options = {"_target_": "ssd.tracking.mlflow.writer.MLflow", "tracking_uri": "file:./mlruns", "artifacts": "a",
               "experiment": "e", "register": None, "flush_seconds": 1, "retry_seconds": 1}  # fmt: skip
    with pytest.raises(UserError, match=r"tracking_uri=file:./mlruns: .*sqlite:///"):
        make_writers({"mlflow": options})


def test_epoch_values_apart_from_step_values():
    assert epoch_namespace({"train/loss": 1.0, "val/map_11pt": 0.5}) == {"train_epoch/loss": 1.0, "val/map_11pt": 0.5}


def test_finite():
    assert finite({"a": 1, "b": float("nan"), "c": float("inf"), "d": 0.5}) == {"a": 1.0, "d": 0.5}


def test_forwarding_is_silent_when_all_is_well(run, caplog):
    with caplog.at_level(logging.DEBUG):
        tell_everything(Events({"recorder": Recorder()}), run)
    assert not caplog.records


def test_a_writer_may_end_the_run() -> None:
    class Judge(Writer):
        def epoch(self, epoch, step, values):
            raise Pruned("no hope")

    recorder = Recorder()
    with pytest.raises(Pruned), Events({"recorder": recorder, "judge": Judge()}) as events:
        events.epoch(1, 1, {})
    assert recorder.heard[-1] == ("close", Results("pruned", "no hope"))
