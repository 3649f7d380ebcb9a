from pathlib import Path

import pytest
from mlflow import MlflowClient

from ssd.runs.results import Results
from ssd.tracking.mlflow.leaderboard import send_leaderboard
from ssd.tracking.mlflow.sweep import PARENT
from ssd.tracking.mlflow.writer import MLflow

CONFIG = "logger: {mlflow: {flush_seconds: 20, retry_seconds: 0.05}}\n"


@pytest.fixture
def finished(job) -> MLflow:
    """A sweep of one job that has ended."""
    writer: MLflow = job(0)
    writer.close(Results("finished", values={"val/map_11pt": 0.5}))
    (writer.store.run.folder / "config.yaml").write_text(CONFIG)
    return writer


@pytest.fixture
def board(tmp_path: Path) -> Path:
    path = tmp_path / "leaderboard.md"
    path.write_text("| first |")
    return path


def test_the_sweeps_run_has_it_and_a_later_one_takes_its_place(finished, board, server, tmp_path):
    sweep = finished.store.run.sweep.folder
    send_leaderboard(sweep, [board])
    board.write_text("| second |")
    send_leaderboard(sweep, [board])
    client = MlflowClient(server.uri)
    parent = client.get_run(finished.store.run_id).data.tags[PARENT]
    assert [file.path for file in client.list_artifacts(parent)] == ["leaderboard.md"]
    assert Path(client.download_artifacts(parent, "leaderboard.md", str(tmp_path))).read_text() == "| second |"


def test_a_server_that_is_gone_costs_a_line(finished, board, server, caplog):
    server.stop()
    sweep = finished.store.run.sweep.folder
    config = finished.store.run.folder / "config.yaml"
    config.write_text(CONFIG.replace("20", "0.2"))
    send_leaderboard(sweep, [board])
    assert caplog.messages[-1] == f"mlflow: the leaderboard was not sent to {server.uri}; it is in {sweep}"


def test_a_sweep_without_mlflow_sends_nothing(board, tmp_path, caplog):
    send_leaderboard(tmp_path, [board])
    assert not caplog.messages
