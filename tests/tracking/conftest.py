"""A run to write down, and a tracking server that can be made to fail."""

import os
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest

from ssd.tracking import RunInfo, Sweep
from ssd.tracking.mlflow.writer import MLflow

SWEPT = ["backbone=small,mobilenet_025", "+optimizer.learning_rate=0.1,0.2"]


@pytest.fixture
def run(tmp_path: Path) -> RunInfo:
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"seed": 0, "head": {"sizes": [[0.1, 0.14], [0.2, 0.27]], "steps": None}, "device": {"name": "cpu"}}
    return RunInfo("small_128_shapes", "train", config, folder, ["cat", "traffic light"], epochs=2, steps=100)


class Listening(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class Server:
    """MLflow's own server on loopback. `mode` says what it does with a request: answers, hangs, or tells an error."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app
        self._release = threading.Event()
        self._listening: Listening | None = None
        self._port = 0
        self.mode = "answer"
        self.seen: Counter[str] = Counter()  # requests by the last part of their path
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._release.clear()
        deadline = time.monotonic() + 300  # the port of a server that has just stopped may be in use a little longer
        while True:
            try:
                self._listening = Listening(("127.0.0.1", self._port), Silent)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._port = self._listening.server_port
        self._listening.set_app(self._answer)
        threading.Thread(target=self._listening.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Whoever waits for an answer gets none; whoever comes later finds nobody."""
        self._release.set()
        if self._listening:
            self._listening.shutdown()
            self._listening.server_close()
            self._listening = None

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        self.seen[environ["PATH_INFO"].rpartition("/")[2]] += 1
        if self.mode == "hang":
            self._release.wait(600)
        if self.mode != "answer":
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"out of order"]
        return self._app(environ, start_response)


@pytest.fixture(scope="session")
def mlflow_app(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """The application of `mlflow server`, over a new store; making its tables takes seconds, so only once."""
    root = tmp_path_factory.mktemp("server")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
    os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = (root / "artifacts").as_uri()
    from mlflow.server import app
    from mlflow.server.handlers import initialize_backend_stores

    store = f"sqlite:///{root}/mlflow.db"
    initialize_backend_stores(store, store, "mlflow-artifacts:/")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # what other tests start has a store of its own
        os.environ.pop(name, None)
    return app


@pytest.fixture
def server(mlflow_app: Callable[..., Any]) -> Iterator[Server]:
    server = Server(mlflow_app)
    yield server
    server.stop()


@pytest.fixture
def job(tmp_path: Path, server) -> Callable[..., MLflow]:
    """job(number, override…) starts a job of a sweep whose directory has every quote in its name."""

    def start(number: int, *own: str) -> MLflow:
        sweep = tmp_path / 'it\'s a "sweep" %'
        folder = sweep / str(number)
        folder.mkdir(parents=True)
        info = RunInfo(f"sweep/{number}", "train", {"seed": 0}, folder, ["cat"], epochs=1, steps=10,
                       facts={"git.commit": "abc", "command": "ssd -m", "host": "here"},
                       sweep=Sweep(sweep, number, list(own), SWEPT))  # fmt: skip
        writer = MLflow(server.uri, "unused", "ssd", None, flush_seconds=60, retry_seconds=0.05)
        writer.start(info)
        writer.step(1, 10, {"train/loss": 1.0})
        return writer

    return start
