import logging
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.telemetry.utils import is_telemetry_disabled

from ssd.runs.results import Results
from ssd.tracking import Events, RunInfo, unsent
from ssd.tracking.files import RunFiles
from ssd.tracking.mlflow.outbox import Entry
from ssd.tracking.mlflow.store import Settings, database_file
from ssd.tracking.mlflow.writer import MLflow
from ssd.utils.errors import UserError


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
        config = {"seed": 7, "head": {"steps": None, "sizes": [[0.1, 0.2]]}, "note": "x" * 700, "empty": {}}
        facts = {"git.commit": "abc", "dataset.name": "pets", "dataset.hash": "0f", "dataset.hash.val": "1e",
                 "user": "me", "device": "cpu [0]"}  # fmt: skip
        run = RunInfo(f"run {status}", "train", config, folder, ["cat"], epochs=1, steps=20, facts=facts)
        writer = MLflow(uri, str(root / "artifacts"), "ssd", None, flush_seconds=60, retry_seconds=0.1)
        events = Events({"files": RunFiles(), "mlflow": writer})
        events.start(run)
        for step in range(1, 21):
            events.step(1, step, {"train/loss": 1 / step, "train/learning_rate": 0.1})
        events.image("val/sample_0", np.zeros((4, 4, 3), np.uint8), 20)
        events.epoch(1, 20, {"train/loss": 0.5, "val/map_11pt": 0.25, "val/ap_11pt/cat (big)": 0.25,
                             "val/ap_11pt/none": float("nan")})  # fmt: skip
        events.artifact(folder / "checkpoints")
        events.artifact(folder / "metrics.csv", "tables")
        values = {"val/map_11pt": 0.25, "val/ap_11pt/none": float("nan"), "test/map_11pt": 0.125}
        events.close(Results(status, checkpoint="best", epoch=1, step=10, values=values))
        runs[status] = (writer, MlflowClient(uri).get_run(writer.store.run_id))
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
    assert params == {"seed": "7", "head.steps": "null", "head.sizes": "[[0.1, 0.2]]", "note": "x" * 700}


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
    final = {name: value for name, value in run.data.metrics.items() if name.startswith("final/")}
    assert final == {"final/map_11pt": 0.25, "final/test/map_11pt": 0.125, "final/epoch": 1.0, "final/step": 10.0}
    assert series("final/map_11pt") == [(10, 0.25)]  # of the best epoch, not of the last
    tags = {name: text for name, text in run.data.tags.items() if name.startswith("final.")}
    assert tags == {"final.split": "val", "final.checkpoint": "best", "final.epoch": "1", "final.step": "10"}
    program, *overrides = shlex.split(writer.where())
    assert (Path(program).name, overrides) == ("mlflow", ["ui", "--backend-store-uri", uri])


def test_where_it_comes_from_are_its_tags(recorded):
    _, root, runs = recorded
    _, run = runs["finished"]
    tags = run.data.tags
    assert {name: tags[name] for name in ("job", "folder", "git.commit", "dataset.hash", "device")} == {
        "job": "train", "folder": str(root / "finished"), "git.commit": "abc", "dataset.hash": "0f",
        "device": "cpu [0]"}  # fmt: skip
    assert tags["mlflow.source.git.commit"] == "abc"
    assert tags["mlflow.user"] == "me"
    assert "mlflow.parentRunId" not in tags
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest, used.tags[0].value) == ("pets", "1e", "val")


def test_artifacts(recorded):
    uri, root, runs = recorded
    run_id = runs["finished"][1].info.run_id
    base = root / "artifacts" / run_id / "artifacts"
    files = sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.is_file())
    assert files == ["checkpoints/ssd-0001.params", "images/val_sample_0.png", "tables/metrics.csv"]


def test_missing_artifact_is_one_line(recorded, run, caplog):
    uri, root, _ = recorded
    writer = MLflow(uri, str(root / "artifacts"), "ssd", None, flush_seconds=60, retry_seconds=0.1)
    writer.start(run)
    writer.artifact(run.folder / "gone.params")
    writer.step(1, 1, {"train/loss": 1.0})
    writer.close(Results("finished"))
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("mlflow refused artifact: ")
    assert caplog.messages[1] == f"mlflow: not recorded at {uri}: 1 x artifact"
    assert MlflowClient(uri).get_run(writer.store.run_id).data.metrics["train/loss"] == 1.0


def test_nothing_is_reported_to_others(recorded):
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"
    assert is_telemetry_disabled()
    assert not logging.getLogger("alembic.runtime.migration").isEnabledFor(logging.INFO)


@pytest.mark.parametrize("uri", ["mlruns", "file:./mlruns", "file:///tmp/mlruns"])
def test_plain_files_are_refused_before_the_run(uri):
    with pytest.raises(UserError, match="tracking_uri"):
        MLflow(uri, "a", "ssd", None, 1, 1)


@pytest.mark.parametrize("name", ["", "a/b", "pets@best:1", "my.model"])
def test_names_no_model_can_have(name):
    with pytest.raises(UserError, match="logger.mlflow.register"):
        MLflow("sqlite:///a.db", "a", "ssd", name, 1, 1)


def test_relative_store_is_where_the_program_was_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = MLflow("sqlite:///outputs/mlflow.db", "outputs/artifacts", "ssd", None, 1, 1)
    monkeypatch.chdir("/")
    assert writer.settings.tracking_uri == f"sqlite:///{tmp_path}/outputs/mlflow.db"


@pytest.mark.parametrize("name", ["what? now", "50%25 off", "it's $HOME #1 schön"])
def test_stores_in_oddly_named_folders(name, tmp_path, monkeypatch, run):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    writer = MLflow("sqlite:///outputs/mlflow.db", "outputs/artifacts", "ssd", None, 60, 0.1)
    writer.start(run)
    (run.folder / "report.html").write_text("x")
    writer.artifact(run.folder / "report.html")
    writer.close(Results("finished"))
    assert {path.name for path in Path("outputs").iterdir()} == {"mlflow.db", "mlflow.db.lock", "artifacts"}
    assert len(list(Path("outputs/artifacts").rglob("report.html"))) == 1
    assert database_file(writer.settings.tracking_uri) == Path.cwd() / "outputs" / "mlflow.db"
    _, _, _, uri = shlex.split(writer.where())  # as the shell hands it over
    assert MlflowClient(uri).get_run(writer.store.run_id).info.status == "FINISHED"
    assert {path.name for path in tmp_path.iterdir()} == {name, "run"}


def test_a_deleted_experiment_is_restored(tmp_path, run, caplog):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    ids = []
    for _ in range(2):
        writer = MLflow(uri, str(tmp_path / "artifacts"), "pets/2024 ..", None, 60, 0.1)
        writer.start(run)
        writer.close(Results("finished"))
        ids.append(client.get_experiment_by_name("pets/2024 ..").experiment_id)
        client.delete_experiment(ids[-1])
    assert ids[0] == ids[1]
    assert caplog.messages == [
        "mlflow: experiment pets/2024 .. had been deleted and is restored, with its runs; "
        "logger.mlflow.experiment=another keeps out of it"
    ]
    assert client.get_run(writer.store.run_id).info.status == "FINISHED"


def test_what_waits_for_a_deleted_experiment_can_be_sent(tmp_path, run):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    settings = Settings(uri, str(tmp_path / "artifacts"), "ssd", None)
    client = MlflowClient(uri)
    client.delete_experiment(client.create_experiment("ssd"))
    unsent.keep(run, settings, [Entry("run", None), Entry("parameters", None)])
    assert unsent.send(run.folder) == uri
    assert len(client.search_runs([client.get_experiment_by_name("ssd").experiment_id])) == 1


def test_what_waits_in_a_run_that_was_moved(tmp_path, run):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (run.folder / "report.html").write_text("x")
    settings = Settings(uri, str(tmp_path / "artifacts"), "ssd", None)
    unsent.keep(run, settings, [Entry("run", None), Entry("artifact", (str(run.folder / "report.html"), "report"))])
    run.folder.rename(tmp_path / "moved")
    unsent.send(tmp_path / "moved")
    assert len(list((tmp_path / "artifacts").rglob("report.html"))) == 1


def test_a_store_that_cannot_be_written_is_one_line_when_sending(tmp_path, run):
    (tmp_path / "file").write_text("")
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    unsent.keep(run, Settings(uri, str(tmp_path), "ssd", None), [Entry("run", None)])
    with pytest.raises(UserError, match="file is not a directory; 1 x run still wait in") as caught:
        unsent.send(run.folder)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["", " ", "x" * 300, "a\nb"])
def test_names_no_experiment_can_have(name):
    with pytest.raises(UserError, match=r"logger\.mlflow\.experiment=") as caught:
        MLflow("sqlite:///a.db", "a", name, None, 1, 1)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("key", ["tracking_uri", "artifacts"])
def test_a_store_that_cannot_be_written(key, tmp_path):
    (tmp_path / "file").write_text("")
    places = {"tracking_uri": str(tmp_path / "here" / "a.db"), "artifacts": str(tmp_path / "here")}
    places[key] = str(tmp_path / "file" / "below")
    with pytest.raises(UserError, match=rf"logger\.mlflow\.{key}: .*file is not a directory"):
        MLflow(f"sqlite:///{places['tracking_uri']}", places["artifacts"], "ssd", None, 1, 1)


def test_nothing_recorded_is_nowhere(tmp_path, run):
    writer = MLflow("http://127.0.0.1:9", str(tmp_path), "ssd", None, 0, 60)
    writer.start(run)
    writer.close(Results("finished"))
    assert writer.where() is None
