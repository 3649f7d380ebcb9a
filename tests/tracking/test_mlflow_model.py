from dataclasses import replace
from pathlib import Path

import mlflow
import mlflow.pyfunc
import numpy as np
import pytest
from mlflow import MlflowClient

from ssd.tracking import mlflow_store, unsent
from ssd.tracking.mlflow import MLflow

FACTS = {"dataset.name": "shapes", "dataset.hash": "0", "dataset.hash.val": "1", "git.commit": "abc"}


@pytest.fixture
def trained(server, run, checkpoint: Path):
    """trained(mAP, name, facts…) is a run with a best model; returns its writer."""

    def finish(value: float, name: str | None = None, **facts: str) -> MLflow:
        writer = MLflow(server.uri, "unused", "ssd", name, flush_seconds=60, retry_seconds=0.05)
        writer.start(replace(run, facts={**FACTS, **facts}))
        writer.step(1, 10, {"train/loss": 1.0})
        values = {"val/map_11pt": np.float32(value), "val/ap_11pt/cat": value, "val/ap_11pt/dog": float("nan")}
        writer.model(checkpoint, values)
        writer.close("finished", values)
        return writer

    return finish


def load(server, address: str):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.uri)
    try:
        return mlflow.pyfunc.load_model(address)
    finally:
        mlflow.set_tracking_uri(before)


def test_the_best_model_is_logged_in_its_run(trained, server, caplog, capsys):
    caplog.set_level("INFO", "ssd")
    writer = trained(0.5)
    client = MlflowClient(server.uri)
    (output,) = client.get_run(writer.store.run_id).outputs.model_outputs
    assert output.step == 10
    logged = client.get_logged_model(output.model_id)
    assert (logged.name, logged.status, logged.source_run_id) == ("detector", "READY", writer.store.run_id)
    model = load(server, f"models:/{output.model_id}")
    assert model.metadata.run_id == writer.store.run_id
    (answer,) = model.predict([np.zeros((40, 50, 3), np.uint8)])
    assert (answer["width"], answer["height"]) == (50, 40)
    assert client.search_model_versions(f"run_id='{writer.store.run_id}'") == []
    assert caplog.messages == [
        f"serve        MLFLOW_TRACKING_URI={server.uri} mlflow models serve -m models:/{output.model_id} "
        "--env-manager local"
    ]
    assert capsys.readouterr() == ("", "")


def test_versions_of_a_registered_model_and_the_best_of_them(trained, server):
    client = MlflowClient(server.uri)

    def best() -> str:
        return str(client.get_model_version_by_alias("pets 2", "best").version)

    trained(0.5, "pets 2")
    assert best() == "1"
    writer = trained(0.25, "pets 2")
    assert best() == "1"
    assert writer.store.served == "models:/pets 2/2"
    trained(0.75, "pets 2")
    assert best() == "3"
    trained(0.1, "pets 2", **{"dataset.hash.val": "other pictures"})
    assert best() == "4"  # numbers of other pictures do not compare: the newest pictures count
    version = client.get_model_version("pets 2", "2")
    assert version.run_id == writer.store.run_id
    assert version.tags == {"map_11pt": "0.25", "dataset.hash.val": "1", "dataset.name": "shapes", "git.commit": "abc"}
    model = load(server, "models:/pets 2@best")
    assert len(model.predict([np.zeros((40, 50, 3), np.uint8)])) == 1


def test_a_registry_that_fails_is_tried_again_without_logging_the_model_twice(trained, server, monkeypatch):
    calls = []
    real = mlflow_store.log_model
    monkeypatch.setattr(mlflow_store, "log_model", lambda *about: calls.append(about) or real(*about))
    attempts = iter(range(3))

    def register(*about):
        if next(attempts, None) is not None:
            raise ConnectionError("gone")
        return "models:/x/1"

    monkeypatch.setattr(mlflow_store, "register", register)
    writer = trained(0.5, "x")
    assert writer.store.served == "models:/x/1"
    assert len(calls) == 1
    assert not (writer.run.folder / unsent.FILE).exists()
