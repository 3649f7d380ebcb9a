"""MLflow: one run per run, with its configuration as parameters, its metrics, and its artifacts.

The store is a database file by default and may be a server. Every call to it is made by the outbox's thread, so that
a server that is slow or gone costs the training nothing.
"""

import fcntl
import importlib.util
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ssd.errors import UserError
from ssd.tracking.events import RunInfo, Values, Writer, apart, finite
from ssd.tracking.files import picture_path
from ssd.tracking.outbox import Entry, Outbox, TryAgainError, first_line

log = logging.getLogger(__name__)

SQLITE = "sqlite:///"
WAITING = 10_000  # entries, a few hundred bytes each
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # MLflow's limits per request
KEY_LENGTH, PARAM_LENGTH = 250, 6000  # and per name and value
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "pruned": "KILLED"}
# For what the user has not set: no reports to anybody, and requests that give up, because the outbox repeats them.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
# Libraries that would talk between our lines; what goes wrong is told by the outbox.
NOISY = ("mlflow", "alembic", "urllib3.connectionpool")


class MLflow(Writer):
    """Sends the run to an MLflow store.

    tracking_uri: sqlite:///file (relative to the working directory), or a server (http://host:5000)
    artifacts: folder for artifacts of a sqlite store; a server has its own place for them
    flush_seconds: how long closing waits for what is not sent yet
    retry_seconds: pause before a store that failed is tried again
    """

    def __init__(
        self, tracking_uri: str, artifacts: str, experiment: str, flush_seconds: float, retry_seconds: float
    ) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise UserError("logger mlflow: MLflow is not installed: pip install mlflow, or choose other loggers")
        if "://" not in tracking_uri or tracking_uri.startswith("file:"):
            raise UserError(f"logger.mlflow.tracking_uri={tracking_uri}: MLflow no longer keeps runs in plain files; "
                            "say sqlite:///path/mlflow.db or http://server:5000")  # fmt: skip
        self.local = tracking_uri.startswith(SQLITE)
        self.uri = SQLITE + str(Path(tracking_uri.removeprefix(SQLITE)).resolve()) if self.local else tracking_uri
        self.artifacts = Path(artifacts).resolve()
        self.experiment = experiment
        self.flush_seconds = flush_seconds
        self.retry_seconds = retry_seconds
        self.run_id = ""  # until the store has given one

    def start(self, run: RunInfo) -> None:
        # Imported here and not on the thread: two threads that import at the same time can trip over each other.
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import mlflow  # noqa: F401

        for name in NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.folder = run.folder
        self.outbox = Outbox(self._send, "mlflow", WAITING, self.retry_seconds)
        self.outbox.put("run", run)

    def step(self, epoch: int, step: int, values: Values) -> None:
        self._metrics({"epoch": epoch, **values}, step)

    def epoch(self, epoch: int, step: int, values: Values) -> None:
        self._metrics({"epoch": epoch, **apart(values)}, step)

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        self.artifact(picture_path(self.folder, tag), "pictures")  # RunFiles, a writer of every run, puts it there

    def artifact(self, path: Path, folder: str = "") -> None:
        self.outbox.put("artifact", (path, folder))

    def close(self, status: str, metrics: Values) -> None:
        self.outbox.put("status", STATUS[status])
        if unsent := self.outbox.close(self.flush_seconds):
            counts = ", ".join(f"{count} x {kind}" for kind, count in unsent.items())
            log.warning("mlflow: not recorded at %s: %s", self.uri, counts)

    def where(self) -> str | None:
        return f"mlflow ui --backend-store-uri {self.uri}" if self.local else self.uri

    def _metrics(self, values: Values, step: int) -> None:
        self.outbox.put("metrics", (finite(values), step, int(time.time() * 1000)))

    # From here on: on the outbox's thread.

    def _send(self, entries: list[Entry]) -> None:
        senders: dict[str, Callable[[list[Any]], None]] = {
            "run": self._send_run,
            "metrics": self._send_metrics,
            "artifact": self._send_artifacts,
            "status": self._send_status,
        }
        if not self.run_id and entries[0].kind != "run":
            raise RuntimeError("there is no run to add it to")
        try:
            senders[entries[0].kind]([entry.content for entry in entries])
        except Exception as error:
            if _may_pass(error):
                raise TryAgainError(first_line(error)) from error
            raise

    def _send_run(self, runs: list[RunInfo]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        run = runs[0]
        if not self.run_id:  # else the run was made, and its parameters did not get through
            with _alone(Path(f"{self.uri.removeprefix(SQLITE)}.lock")) if self.local else nullcontext():
                self.client = MlflowClient(self.uri)
                experiment = self._experiment_id()
            tags = {"job": run.job, "folder": str(run.folder.resolve())}
            self.run_id = self.client.create_run(experiment, tags=tags, run_name=run.name).info.run_id
        params = [Param(name, value) for name, value in flatten(run.config).items()]
        for first in range(0, len(params), PARAMS_AT_ONCE):
            self.client.log_batch(self.run_id, params=params[first : first + PARAMS_AT_ONCE], synchronous=True)

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        location = self.artifacts.as_uri() if self.local else None
        if found := self.client.get_experiment_by_name(self.experiment):
            return found.experiment_id
        try:
            return self.client.create_experiment(self.experiment, artifact_location=location)
        except MlflowException:  # another client of the server was faster
            if found := self.client.get_experiment_by_name(self.experiment):
                return found.experiment_id
            raise

    def _send_metrics(self, rows: list[tuple[Values, int, int]]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(clean(name), value, moment, step)
                   for values, step, moment in rows for name, value in values.items()]  # fmt: skip
        for first in range(0, len(metrics), METRICS_AT_ONCE):
            self.client.log_batch(self.run_id, metrics=metrics[first : first + METRICS_AT_ONCE], synchronous=True)

    def _send_artifacts(self, artifacts: list[tuple[Path, str]]) -> None:
        for path, folder in artifacts:
            if path.is_dir():
                self.client.log_artifacts(self.run_id, str(path), "/".join(filter(None, [folder, path.name])))
            else:
                self.client.log_artifact(self.run_id, str(path), folder or None)

    def _send_status(self, statuses: list[str]) -> None:
        self.client.set_terminated(self.run_id, statuses[0])


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time: MLflow 3.17 spoils a new database when two jobs of a sweep make its tables at once."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        yield


def _may_pass(error: Exception) -> bool:
    """Whether trying again later can help: the network, a busy server, a database another process has locked."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    if isinstance(error, MlflowException):
        code = error.get_http_status_code()
        return code >= 500 or code in (408, 429)
    lost = (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError, OperationalError)
    return isinstance(error, lost)


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """{"a": {"b": 1, "c": [1, 2]}} -> {"a.b": "1", "a.c": "[1, 2]"}, cut to what MLflow accepts; lists stay whole."""
    leaves: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            leaves.update(flatten(value, f"{prefix}{name}."))
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
            leaves[clean(f"{prefix}{name}")] = text[:PARAM_LENGTH]
    return leaves


def clean(name: str) -> str:
    """A name MLflow accepts: of letters, digits, and _ - . space : and, as a path, without "", "." and ".." in it."""
    parts = re.sub(r"[^\w\-. :/]", "_", name)[:KEY_LENGTH].split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))
