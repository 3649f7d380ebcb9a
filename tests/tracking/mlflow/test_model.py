import json
from dataclasses import replace
from pathlib import Path

import mlflow
import mlflow.pyfunc
import numpy as np
import pytest
from mlflow import MlflowClient

from ssd.config.commands import shell_command
from ssd.runs.results import Conditions, Results
from ssd.tracking import unsent
from ssd.tracking.mlflow import store
from ssd.tracking.mlflow.writer import MLflow

VAL = Conditions("pets", "val", 90, 200, "0f", 0.5, None)
FACTS = {"dataset.name": "shapes", "dataset.hash": "0", "dataset.hash.val": "1", "git.commit": "abc"}


@pytest.fixture
def trained(server, run, checkpoint: Path):
    """trained(mAP, name, how=…) is a run with a best model, measured so; returns its writer."""

    def finish(value: float, name: str | None = None, how: Conditions | None = VAL) -> MLflow:
        writer = MLflow(server.uri, "unused", "ssd", name, flush_seconds=60, retry_seconds=0.05)
        writer.start(replace(run, facts=FACTS))
        writer.step(1, 10, {"train/loss": 1.0})
        values = {"val/map_11pt": np.float32(value), "val/ap_11pt/cat": value, "val/ap_11pt/dog": float("nan")}
        writer.step(2, 20, {"train/loss": 1.0})
        results = Results("finished", None, "val", "best", 1, 10, values, {"val": how} if how else {})
        writer.model(checkpoint, results)
        writer.close(results)
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
    assert output.step == 10  # of the best epoch, not of the last
    logged = client.get_logged_model(output.model_id)
    assert (logged.name, logged.status, logged.source_run_id) == ("detector", "READY", writer.store.run_id)
    model = load(server, f"models:/{output.model_id}")
    assert model.metadata.run_id == writer.store.run_id
    (answer,) = model.predict([np.zeros((40, 50, 3), np.uint8)])
    assert (answer["width"], answer["height"]) == (50, 40)
    assert client.search_model_versions(f"run_id='{writer.store.run_id}'") == []
    overrides = ("models", "serve", "-m", f"models:/{output.model_id}", "--env-manager", "local")
    command = shell_command("mlflow", *overrides, environment=[f"MLFLOW_TRACKING_URI={server.uri}"])
    assert caplog.messages == [f"serve        {command}"]
    assert capsys.readouterr() == ("", "")


def test_versions_of_a_registered_model_and_the_best_of_them(trained, server, caplog):
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
    assert not [text for text in caplog.messages if "stays" in text]
    for how, differs in (
        (replace(VAL, fingerprint="1e"), "images"),
        (replace(VAL, split="test"), "split (test, val)"),
        (replace(VAL, iou=0.3), "metric.iou (0.3, 0.5)"),
        (replace(VAL, compat="mxnet_ssd"), "metric.compat (mxnet_ssd, null)"),
        (None, "how they were measured is not recorded for some"),
    ):
        caplog.clear()
        trained(0.9, "pets 2", how)
        assert best() == "3"
        (line,) = [text for text in caplog.messages if "stays" in text]
        assert line == (
            f"mlflow: pets 2@best stays at version 3, whose numbers do not compare with the new ones: {differs}; "
            "delete the alias to have it set anew"
        )
    client.delete_registered_model_alias("pets 2", "best")
    trained(0.1, "pets 2", replace(VAL, fingerprint="1e"))
    assert best() == "4"  # the best of those that were measured as the newest
    version = client.get_model_version("pets 2", "2")
    assert version.run_id == writer.store.run_id
    measured = json.loads(version.tags.pop("measured"))
    assert (measured["split"], measured["fingerprint"]) == ("val", "0f")
    assert version.tags == {
        "map_11pt": "0.25", "dataset.hash.val": "1", "dataset.name": "shapes", "git.commit": "abc",
        "final.split": "val", "final.checkpoint": "best", "final.epoch": "1", "final.step": "10",
    }  # fmt: skip
    model = load(server, "models:/pets 2@best")
    assert len(model.predict([np.zeros((40, 50, 3), np.uint8)])) == 1


def test_a_registry_that_fails_is_tried_again_without_logging_the_model_twice(trained, server, monkeypatch):
    calls = []
    real = store.log_model
    monkeypatch.setattr(store, "log_model", lambda *about: calls.append(about) or real(*about))
    attempts = iter(range(3))

    def register(*about):
        if next(attempts, None) is not None:
            raise ConnectionError("gone")
        return "models:/x/1"

    monkeypatch.setattr(store, "register", register)
    writer = trained(0.5, "x")
    assert writer.store.served == "models:/x/1"
    assert len(calls) == 1
    assert not (writer.run.folder / unsent.FILE).exists()
