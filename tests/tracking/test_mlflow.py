import http.server
import logging
import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.telemetry.utils import is_telemetry_disabled
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, _validate_metric_name, _validate_param_name

from ssd.errors import UserError
from ssd.tracking import Events, RunInfo
from ssd.tracking.files import RunFiles
from ssd.tracking.mlflow import PARAM_LENGTH, MLflow, _alone, clean, flatten


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A finished, a failed and an interrupted run in one new store; making its tables takes seconds, so only once."""
    root = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{root}/store/mlflow.db"
    runs = {}
    for status in ("finished", "failed", "interrupted"):
        folder = root / status
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "ssd-0001.params").write_bytes(b"weights")
        config = {"seed": 7, "head": {"steps": None, "sizes": [[0.1, 0.2]]}, "note": "x" * 7000, "empty": {}}
        run = RunInfo(f"run {status}", "train", config, folder, ["cat"], epochs=1, steps=20)
        writer = MLflow(uri, str(root / "artifacts"), "ssd", flush_seconds=60, retry_seconds=0.1)
        events = Events({"files": RunFiles(), "mlflow": writer})
        events.start(run)
        for step in range(1, 21):
            events.step(1, step, {"train/loss": 1 / step, "train/learning_rate": 0.1})
        events.image("val/sample_0", np.zeros((4, 4, 3), np.uint8), 20)
        events.epoch(1, 20, {"train/loss": 0.5, "val/map_11pt": 0.25, "val/ap_11pt/cat (big)": 0.25,
                             "val/ap_11pt/none": float("nan")})  # fmt: skip
        events.artifact(folder / "checkpoints")
        events.artifact(folder / "metrics.csv", "tables")
        events.close(status, {"map_11pt": 0.25})
        runs[status] = (writer, MlflowClient(uri).get_run(writer.run_id))
    return uri, root, runs


def test_status_of_the_run(recorded):
    _, _, runs = recorded
    states = {status: run.info.status for status, (_, run) in runs.items()}
    assert states == {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


def test_one_experiment_holds_all_runs_by_name(recorded):
    uri, root, runs = recorded
    experiment = MlflowClient(uri).get_experiment_by_name("ssd")
    assert experiment.artifact_location == (root / "artifacts").as_uri()
    assert {run.info.experiment_id for _, run in runs.values()} == {experiment.experiment_id}
    assert {run.info.run_name for _, run in runs.values()} == {"run finished", "run failed", "run interrupted"}


def test_configuration_is_its_parameters(recorded):
    _, _, runs = recorded
    params = runs["finished"][1].data.params
    assert params == {"seed": "7", "head.steps": "null", "head.sizes": "[[0.1, 0.2]]", "note": "x" * PARAM_LENGTH}


def test_metrics_with_step_and_epoch(recorded):
    uri, root, runs = recorded
    writer, run = runs["finished"]

    def series(name):
        return [(metric.step, metric.value) for metric in MlflowClient(uri).get_metric_history(run.info.run_id, name)]

    assert series("train/loss") == [(step, 1 / step) for step in range(1, 21)]
    assert series("train_epoch/loss") == [(20, 0.5)]
    assert series("epoch")[0] == (1, 1.0)
    assert series("val/ap_11pt/cat _big_") == [(20, 0.25)]
    assert "val/ap_11pt/none" not in run.data.metrics
    assert run.data.tags["folder"] == str(root / "finished")
    assert writer.where() == f"mlflow ui --backend-store-uri {uri}"


def test_artifacts(recorded):
    uri, root, runs = recorded
    run_id = runs["finished"][1].info.run_id
    base = root / "artifacts" / run_id / "artifacts"
    files = sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.is_file())
    assert files == ["checkpoints/ssd-0001.params", "pictures/val_sample_0.png", "tables/metrics.csv"]


def test_missing_artifact_is_one_line(recorded, run, caplog):
    uri, root, _ = recorded
    writer = MLflow(uri, str(root / "artifacts"), "ssd", flush_seconds=60, retry_seconds=0.1)
    writer.start(run)
    writer.artifact(run.folder / "gone.params")
    writer.step(1, 1, {"train/loss": 1.0})
    writer.close("finished", {})
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("mlflow refused artifact: ")
    assert caplog.messages[1] == f"mlflow: not recorded at {uri}: 1 x artifact"
    assert MlflowClient(uri).get_run(writer.run_id).data.metrics["train/loss"] == 1.0


@pytest.fixture
def slow_server():
    """Accepts every request and answers none."""
    release = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            release.wait(30)

        def do_POST(self):
            release.wait(30)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    release.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["unreachable", "slow"])
def test_server_that_does_not_answer_delays_nothing(kind, run, slow_server, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    uri = slow_server if kind == "slow" else "http://127.0.0.1:9"
    writer = MLflow(uri, "unused", "ssd", flush_seconds=0.5, retry_seconds=0.1)
    writer.start(run)
    delays = []
    for step in range(1, 101):
        start = time.perf_counter()
        writer.step(1, step, {"train/loss": 1.0})
        delays.append(time.perf_counter() - start)
        time.sleep(0.002)
    assert np.median(delays) < 0.001
    start = time.perf_counter()
    writer.close("finished", {})
    assert time.perf_counter() - start < 1.5
    assert caplog.messages[-1] == f"mlflow: not recorded at {uri}: 1 x run, 100 x metrics, 1 x status"
    assert len(caplog.messages) == (2 if kind == "unreachable" else 1)
    assert writer.where() == uri


def test_nothing_is_reported_to_others(recorded):
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"
    assert is_telemetry_disabled()
    assert not logging.getLogger("alembic.runtime.migration").isEnabledFor(logging.INFO)


@pytest.mark.parametrize("uri", ["mlruns", "file:./mlruns", "file:///tmp/mlruns"])
def test_plain_files_are_refused_before_the_run(uri):
    with pytest.raises(UserError, match="tracking_uri"):
        MLflow(uri, "a", "ssd", 1, 1)


def test_relative_store_is_where_the_program_was_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = MLflow("sqlite:///outputs/mlflow.db", "outputs/artifacts", "ssd", 1, 1)
    monkeypatch.chdir("/")
    assert writer.where() == f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/outputs/mlflow.db"


def test_one_at_a_time_makes_a_new_store(tmp_path):
    inside, most = 0, 0

    def enter():
        nonlocal inside, most
        with _alone(tmp_path / "store" / "mlflow.db.lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert most == 1


def test_flatten():
    config = {"a": {"b": 1, "c": [1, None], "d": {}}, "e": "text", "f": True, "g+h": 0.5}
    assert flatten(config) == {"a.b": "1", "a.c": "[1, null]", "e": "text", "f": "true", "g_h": "0.5"}
    assert PARAM_LENGTH == MAX_PARAM_VAL_LENGTH


@given(st.text(min_size=1, max_size=300) | st.text("./ab", max_size=8))
def test_mlflow_accepts_cleaned_names(class_name):
    name = f"val/ap_11pt/{class_name}"
    _validate_metric_name(clean(name))
    _validate_param_name(clean(name))
