"""A tracking server that is down, slow, wrong or dying; and what happens to what it did not take."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ssd.runs.results import Results
from ssd.tracking import unsent
from ssd.tracking.mlflow.store import RUN_FILE
from ssd.tracking.mlflow.writer import MLflow
from ssd.utils.errors import UserError

STEPS = 300


def writer_to(uri: str, flush_seconds: float = 60) -> MLflow:
    return MLflow(uri, "unused", "ssd", None, flush_seconds, retry_seconds=0.05)


def train(writer: MLflow, run, first: int = 1, last: int = STEPS) -> None:
    writer.start(run)
    for step in range(first, last + 1):
        writer.step(1, step, {"train/loss": 1 / step})
    report = run.folder / "report.html"
    report.write_text("<p>good</p>")
    writer.artifact(report, "report")


def recorded(uri: str, folder: Path):
    client = MlflowClient(uri)
    run = client.get_run(json.loads((folder / RUN_FILE).read_text())["run_id"])
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    return run, [(metric.step, metric.value) for metric in sorted(losses, key=lambda metric: metric.step)]


def test_a_server_that_answers_gets_everything(server, run, caplog):
    writer = writer_to(server.uri)
    train(writer, run)
    writer.close(Results("finished", values={"val/map_11pt": 0.5}))
    stored, losses = recorded(server.uri, run.folder)
    assert stored.info.status == "FINISHED"
    assert losses == [(step, 1 / step) for step in range(1, STEPS + 1)]
    assert stored.data.params["device.name"] == "cpu"
    assert stored.data.metrics["final/map_11pt"] == 0.5
    artifacts = MlflowClient(server.uri).list_artifacts(stored.info.run_id, "report")
    assert [artifact.path for artifact in artifacts] == ["report/report.html"]
    assert not (run.folder / unsent.FILE).exists()
    assert caplog.messages == []
    assert writer.where() == server.uri


@pytest.mark.parametrize("kind", ["down", "slow", "wrong"])
def test_a_server_that_takes_nothing_delays_nothing_and_gets_it_later(kind, server, run, caplog):
    if kind == "down":
        server.stop()
    server.mode = {"down": "answer", "slow": "hang", "wrong": "error"}[kind]
    writer = writer_to(server.uri, flush_seconds=0.3)
    train(writer, run)
    # The training is over, and the server has yet to answer its first request.
    assert writer.store.run_id == ""
    assert kind != "slow" or server.seen.total() <= 1
    start = time.perf_counter()
    writer.close(Results("finished", values={"val/map_11pt": 0.5}))
    assert time.perf_counter() - start < 200  # a request that hangs does so for longer
    kept = run.folder / unsent.FILE
    assert len(caplog.messages) == (1 if kind == "slow" else 2)
    assert caplog.messages[-1] == (
        f"mlflow: not sent to {server.uri}: 1 x run, 1 x parameters, {STEPS} x metrics, 1 x artifact, 1 x status; "
        f"kept in {kept}, to send it later: {unsent.command(run.folder, server.uri)}"
    )
    if kind != "slow":
        assert "training goes on, and so do attempts" in caplog.messages[0]

    if kind != "down":
        server.stop()
    before = kept.read_bytes()
    with pytest.raises(UserError, match="1 x run.* still wait in") as caught:
        unsent.send(run.folder)
    assert "\n" not in str(caught.value)
    assert kept.read_bytes() == before
    server.mode = "answer"
    server.start()
    assert unsent.main([str(run.folder), "--to", server.uri]) == 0
    stored, losses = recorded(server.uri, run.folder)
    assert losses == [(step, 1 / step) for step in range(1, STEPS + 1)]
    assert stored.info.status == "FINISHED"
    assert stored.data.params["head.steps"] == "null"
    assert not kept.exists()
    assert unsent.main([str(run.folder)]) == 2  # nothing is left to send


def test_a_server_that_dies_half_way_has_the_rest_sent_to_the_same_run(server, run, caplog):
    writer = writer_to(server.uri, flush_seconds=0.3)
    train(writer, run, 1, 10)
    while server.seen["log-batch"] < 2:  # parameters, and some of the metrics
        time.sleep(0.01)
    server.stop()
    for step in range(11, STEPS + 1):
        writer.step(1, step, {"train/loss": 1 / step})
    writer.close(Results("failed"))
    assert "not sent to" in caplog.messages[-1]
    assert "x run" not in caplog.messages[-1]
    server.start()
    unsent.send(run.folder)
    stored, losses = recorded(server.uri, run.folder)
    assert losses == [(step, 1 / step) for step in range(1, STEPS + 1)]
    assert stored.info.status == "FAILED"
    found = MlflowClient(server.uri).search_runs([stored.info.experiment_id], f"tags.folder = '{run.folder}'")
    assert len(found) == 1


def test_a_server_that_stumbles_is_told_everything_once_it_is_back(server, run, caplog):
    caplog.set_level("INFO", "ssd")
    writer = writer_to(server.uri)
    server.mode = "error"
    train(writer, run)
    while not caplog.messages:
        time.sleep(0.01)
    server.mode = "answer"
    while "mlflow answers again" not in caplog.messages:
        time.sleep(0.01)
    writer.close(Results("finished"))
    assert len(recorded(server.uri, run.folder)[1]) == STEPS
    assert not (run.folder / unsent.FILE).exists()


def test_a_resumed_run_goes_on_in_its_run_without_overlap(server, run):
    """Killed after step 30 with a checkpoint of step 20: steps 21 to 30 come again."""
    first = writer_to(server.uri)
    train(first, run, 1, 30)
    first.epoch(1, 20, {"train/loss": 0.5})
    first.outbox.close(60)  # what a kill leaves: no status
    config = {**run.config, "seed": 1, "new": "x"}
    again = replace(run, resumed_at=20, config=config)
    second = writer_to(server.uri)
    train(second, again, 21, 40)
    second.epoch(2, 40, {"train/loss": 0.25})
    second.close(Results("finished", values={"val/map_11pt": 0.5}))
    assert second.store.run_id == first.store.run_id
    stored, losses = recorded(server.uri, run.folder)
    assert losses == [(step, 1 / step) for step in range(1, 41)]
    epochs = MlflowClient(server.uri).get_metric_history(second.store.run_id, "train_epoch/loss")
    assert [(metric.step, metric.value) for metric in epochs] == [(20, 0.5), (40, 0.25)]
    assert stored.info.status == "FINISHED"
    assert stored.data.params["seed"] == "0"
    assert stored.data.params["new"] == "x"
    assert stored.data.tags["resumed.20"] == "seed: 0 -> 1"


def test_a_resumed_run_sends_what_was_left_behind(server, run):
    server.stop()
    first = writer_to(server.uri, flush_seconds=0.1)
    train(first, run, 1, 30)
    first.close(Results("interrupted"))
    server.start()
    second = writer_to(server.uri)
    train(second, replace(run, resumed_at=20), 21, 40)
    second.close(Results("finished"))
    _, losses = recorded(server.uri, run.folder)
    assert losses == [(step, 1 / step) for step in range(1, 41)]
    assert not (run.folder / unsent.FILE).exists()


@pytest.mark.parametrize("lost", ["deleted", "another store", "damaged"])
def test_a_resumed_run_whose_run_is_gone_gets_a_new_one(lost, server, run):
    first = writer_to(server.uri)
    train(first, run, 1, 10)
    first.close(Results("interrupted"))
    place = run.folder / RUN_FILE
    if lost == "deleted":
        MlflowClient(server.uri).delete_run(first.store.run_id)
    elif lost == "another store":
        place.write_text(json.dumps({"tracking_uri": "http://elsewhere", "run_id": first.store.run_id}))
    else:
        place.write_text("{")
    second = writer_to(server.uri)
    train(second, replace(run, resumed_at=10), 11, 20)
    second.close(Results("finished"))
    assert second.store.run_id != first.store.run_id
    assert [step for step, _ in recorded(server.uri, run.folder)[1]] == list(range(11, 21))


def test_a_fresh_run_in_a_used_directory_is_a_new_run(server, run):
    ids = []
    for _ in range(2):
        writer = writer_to(server.uri)
        train(writer, run, 1, 3)
        writer.close(Results("finished"))
        ids.append(writer.store.run_id)
    assert ids[0] != ids[1]


def test_the_newest_image_of_a_tag_is_sent_once(server, run):
    server.mode = "error"
    writer = writer_to(server.uri)
    writer.start(run)
    image = run.folder / "images" / "val_sample_0.png"
    image.parent.mkdir()
    for epoch in range(50):
        image.write_text(str(epoch))
        writer.image("val/sample_0", None, epoch)
    server.mode = "answer"
    writer.close(Results("finished"))
    assert server.seen["val_sample_0.png"] == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"run": {}}', b'{"run": 3, "settings": {}, "entries": []}'])
def test_damaged_leftovers_are_one_line(content, run, capsys):
    (run.folder / unsent.FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"mlflow-unsent.json: (cannot be read|damaged)") as caught:
        unsent.send(run.folder)
    assert "\n" not in str(caught.value)
