"""A real training and its tracking server: what is recorded, and that a server that hangs costs no step."""

import csv
import json
from pathlib import Path

import mlflow
import mlflow.pyfunc
import numpy as np
import pytest
from mlflow import MlflowClient

from ssd.config.compose import compose
from ssd.detection import Detector
from ssd.jobs import train
from ssd.tracking import unsent
from ssd.tracking.mlflow.store import RUN_FILE

OVERRIDES = ["data_shape=64", "dataset.train=16", "dataset.val=4", "batch_size=4", "epochs=1", "training.samples=1",
         "training.log_every=1", "metric.worst_images=2", "logger=[csv,mlflow]"]  # fmt: skip
STEPS = 4


@pytest.fixture
def trained(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """trained(override…) trains with this server; returns the run directory."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str) -> Path:
        folder = tmp_path / "small_64" / "run"
        folder.mkdir(parents=True)
        train.run(compose([*OVERRIDES, f"logger.mlflow.tracking_uri={server.uri}", *overrides]), folder)
        return folder

    return run


def steps_of(folder: Path) -> list[int]:
    return [int(row["step"]) for row in csv.DictReader((folder / "steps.csv").open())]


def check_everything_is_there(server, folder: Path) -> None:
    client = MlflowClient(server.uri)
    run = client.get_run(json.loads((folder / RUN_FILE).read_text())["run_id"])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted(metric.step for metric in history) == list(range(1, STEPS + 1))
    numbers = json.loads((folder / "metrics.json").read_text())
    assert run.data.metrics["final/map_11pt"] == pytest.approx(numbers["map_11pt"])
    assert run.data.params["optimizer.name"] == "adam"
    assert len(run.data.tags["dataset.hash"]) == 16
    assert run.info.status == "FINISHED"
    for place, name in (
        ("checkpoints", "ssd-symbol.json"),
        ("report", "report.html"),
        ("images", "val_sample_1.png"),
    ):
        assert f"{place}/{name}" in [file.path for file in client.list_artifacts(run.info.run_id, place)]
    (output,) = run.outputs.model_outputs
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.uri)
    try:
        model = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    finally:
        mlflow.set_tracking_uri(before)
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    (answer,) = model.predict([image], params={"threshold": 0.0})
    expected = Detector.load(str(folder), batch_size=1).predict([image])[0]
    assert len(expected) > 0
    np.testing.assert_allclose([one["box"] for one in answer["detections"]], expected[:, 2:], atol=0.0101)


def test_a_training_is_recorded(trained, server) -> None:
    folder = trained("logger.mlflow.flush_seconds=120")
    assert steps_of(folder) == list(range(1, STEPS + 1))
    check_everything_is_there(server, folder)
    assert not (folder / unsent.FILE).exists()


def test_a_server_that_hangs_costs_no_step_and_is_sent_it_all_later(trained, server, caplog) -> None:
    server.mode = "hang"
    folder = trained("logger.mlflow.flush_seconds=0.2")
    # The first request still waits for its answer, and the training is over, with all its files.
    assert server.seen.total() == 1
    assert steps_of(folder) == list(range(1, STEPS + 1))
    assert (folder / "report.html").is_file()
    (line,) = [text for text in caplog.messages if "not sent to" in text]
    assert "1 x model" in line
    assert unsent.command(folder, server.uri) in line
    server.stop()
    server.mode = "answer"
    server.start()
    unsent.send(folder)
    check_everything_is_there(server, folder)
