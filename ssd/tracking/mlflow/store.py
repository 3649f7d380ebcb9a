"""A run in an MLflow store. All here talks to the store and may take long or fail: the outbox's thread calls it."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ssd.config.credentials import missing, whole
from ssd.config.stores import SQLITE, check_place
from ssd.tracking.events import RunInfo, Values
from ssd.tracking.mlflow.model import log_model, register, serving_of, version_tags
from ssd.tracking.mlflow.names import KEY_LENGTH, TAG_LENGTH, clean, parameters, shortened, source_tags
from ssd.tracking.mlflow.outbox import TryAgainError, first_line
from ssd.tracking.mlflow.sweep import FINAL, SweepRun
from ssd.utils.atomic_files import file_lock, read_json, write_json
from ssd.utils.errors import UserError
from ssd.utils.names import Tags

log = logging.getLogger(__name__)

DRIVER = "sqlite+pysqlite:///"  # the same; of SQLITE MLflow would make the folders, from the encoded path
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # MLflow's limits per request
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "pruned": "KILLED"}
RUN_FILE_BYTES = 100_000
RUN_FILE = "mlflow.json"  # in the run directory: which run of which store it is
KIND = {"mlflow.experimentKind": "custom_model_development"}  # which of its pages MLflow shows: not those of chats
RETRY_STATUS = (401, 403, 408, 429)  # of the answers that blame the request: those that another time may not be given


@dataclass(frozen=True)
class Settings:
    """Where runs are kept. Paths are absolute.

    tracking_uri: sqlite:///file, or a server. artifacts: folder, of a sqlite store. register: name in the registry of
    models, null for none.
    """

    tracking_uri: str
    artifacts: str
    experiment: str
    register: str | None

    @property
    def local(self) -> bool:
        return self.tracking_uri.startswith((SQLITE, DRIVER))


def database_uri(path: Path) -> str:
    """The address of a database file, which MLflow hands to SQLAlchemy: "?" begins options there, "%" a character."""
    if not set("?%") & set(str(path)):
        return f"{SQLITE}{path}"
    from sqlalchemy.engine import make_url

    encoded = quote(str(path), safe="/")
    if make_url(f"{SQLITE}%3F").database == "?":  # from SQLAlchemy 2.1 on
        return f"{DRIVER}{encoded}"
    return f"{DRIVER}file:{encoded}?uri=true"


def database_file(uri: str) -> Path:
    """The file behind an address that database_uri made."""
    from sqlalchemy.engine import make_url

    name = make_url(uri).database or ""
    return Path(unquote(name.removeprefix("file:"))) if name.startswith("file:") else Path(name)


def address(uri: str) -> str:
    """How a user names the store: sqlite:///file, or a server."""
    return f"{SQLITE}{database_file(uri)}" if uri.startswith(DRIVER) else uri


class Store:
    """One run in the store. It goes on where its run directory says it is, if `go_on`; else it is a new one.

    send(kind, contents), with the contents that ssd.tracking.mlflow.writer.MLflow puts into its outbox.
    """

    def __init__(self, settings: Settings, run: RunInfo, go_on: bool) -> None:
        self.settings = settings
        self.run = run
        self.run_id = ""  # until the store has given one
        self.served = ""  # address of the model logged last
        self._go_on = go_on
        self._tags = Tags(run.classes, clean)
        self._known_params: dict[str, str] = {}
        self._known_steps: dict[str, int] = {}  # of a run that goes on: last step of each metric
        self._logged_models: dict[str, str] = {}
        self._sweep: SweepRun | None = None

    def send(self, kind: str, contents: Sequence[Any]) -> None:
        """Errors: TryAgainError if another time it may go through, anything else if never."""
        senders: dict[str, Callable[[Any], None]] = {
            "run": self._send_run,
            "parameters": self._send_parameters,
            "metrics": self._send_metrics,
            "artifact": self._send_artifacts,
            "model": self._send_models,
            "status": self._send_status,
        }
        if not self.run_id:
            # Nothing can be sent before, and without a run all is lost: whatever the reason, it is tried again.
            guarded(lambda: self._send_run([]), self.settings.tracking_uri, always=True)
        if kind != "run":
            guarded(lambda: senders[kind](contents), self.settings.tracking_uri)

    def _send_run(self, _: Any) -> None:
        from mlflow import MlflowClient

        # MLflow 3.17 spoils a new database when two jobs of a sweep make its tables at once.
        with self._alone():
            self.client = MlflowClient(whole(self.settings.tracking_uri))
            self.experiment = self._experiment_id()
        tags = {"job": self.run.job, "folder": str(self.run.folder.resolve()), **self.run.facts}
        tags |= source_tags(self.run.facts)
        name = self.run.name
        if self.run.sweep:
            self._sweep = SweepRun(self.client, self.experiment, self.run)
            self._sweep.join()
            name, tags = self._sweep.name(), {**tags, **self._sweep.tags()}
        run_id = self._earlier() if self._go_on else None
        if not run_id:
            tags = {clean(key): shortened(text, TAG_LENGTH) for key, text in tags.items()}
            run_id = self.client.create_run(self.experiment, tags=tags, run_name=name[:KEY_LENGTH]).info.run_id
            place = {"tracking_uri": self.settings.tracking_uri, "run_id": run_id}
            write_json(self.run.folder / RUN_FILE, place, compact=True)
        if self.settings.local:  # as the database has it: what was created may have been changed in it
            self._check_place(self.client.get_run(run_id).info.artifact_uri)
        self.run_id = run_id

    def _alone(self) -> AbstractContextManager[Any]:
        if not self.settings.local:
            return nullcontext()
        file = database_file(self.settings.tracking_uri)
        return file_lock(file.with_name(f"{file.name}.lock"))

    def _experiment_id(self) -> str:
        """A deleted one is restored: it keeps its name to itself, and what is recorded is not lost."""
        from mlflow.exceptions import MlflowException

        name = self.settings.experiment
        location = Path(self.settings.artifacts).as_uri() if self.settings.local else None
        if found := self.client.get_experiment_by_name(name):
            self._check_place(found.artifact_location)
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
                log.warning(
                    "mlflow: experiment %s had been deleted and is restored, with its runs; "
                    "logger.mlflow.experiment=another keeps out of it", name,
                )  # fmt: skip
            return found.experiment_id
        try:
            return self.client.create_experiment(name, artifact_location=location, tags=KIND)
        except MlflowException:  # another client of the server was faster
            if found := self.client.get_experiment_by_name(name):
                self._check_place(found.artifact_location)
                return found.experiment_id
            raise

    def _check_place(self, location: str) -> None:
        if self.settings.local:
            check_place(location, address(self.settings.tracking_uri), self.settings.artifacts)

    def _earlier(self) -> str | None:
        """The run that the run directory belongs to, running again; None if this store has it no longer."""
        from mlflow.exceptions import MlflowException

        file = self.run.folder / RUN_FILE
        try:
            place = read_json(file, RUN_FILE_BYTES, "the place of a run in a store")
            run_id, here = str(place["run_id"]), place["tracking_uri"] == self.settings.tracking_uri
        except (OSError, UserError, KeyError, TypeError):
            return None
        try:
            found = self.client.get_run(run_id) if here else None
        except MlflowException as error:
            if error.get_http_status_code() != 404:
                raise
            return None
        if found is None or found.info.lifecycle_stage != "active":
            return None
        self._check_place(found.info.artifact_uri)
        self._known_params = found.data.params
        self.client.update_run(run_id, status="RUNNING")
        return run_id

    def _send_parameters(self, _: Any) -> None:
        from mlflow.entities import Param

        now = parameters(self.run.config)
        params = [Param(name, text) for name, text in now.items() if name not in self._known_params]
        for first in range(0, len(params), PARAMS_AT_ONCE):
            self.client.log_batch(self.run_id, params=params[first : first + PARAMS_AT_ONCE], synchronous=True)
        # MLflow never changes a parameter: what a resumed run does differently is written in a tag.
        changed = [f"{name}: {self._known_params[name]} -> {text}" for name, text in now.items()
                   if self._known_params.get(name, text) != text]  # fmt: skip
        if self.run.resumed_at is not None:
            text = shortened("; ".join(changed) or "unchanged", TAG_LENGTH)
            self.client.set_tag(self.run_id, f"resumed.{self.run.resumed_at}", text)
        self.client.log_inputs(self.run_id, _datasets(self.run.facts))

    def _send_metrics(self, rows: Sequence[tuple[Values, int, int]]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(self._tags(name), value, moment, step) for values, step, moment in rows
                   for name, value in values.items()]  # fmt: skip
        if self._go_on:  # what was sent before the interruption is not sent again, so curves do not overlap
            metrics = [metric for metric in metrics if metric.step > self._known_step(metric.key)]
        for first in range(0, len(metrics), METRICS_AT_ONCE):
            self.client.log_batch(self.run_id, metrics=metrics[first : first + METRICS_AT_ONCE], synchronous=True)

    def _known_step(self, name: str) -> int:
        if name not in self._known_steps:
            history = self.client.get_metric_history(self.run_id, name)
            self._known_steps[name] = max((metric.step for metric in history), default=-1)
        return self._known_steps[name]

    def _send_artifacts(self, artifacts: Sequence[tuple[str, str]]) -> None:
        for name, folder in artifacts:
            path = Path(name)
            if path.is_dir():
                self.client.log_artifacts(self.run_id, name, "/".join(filter(None, [folder, path.name])))
            else:
                self.client.log_artifact(self.run_id, name, folder or None)

    def _send_models(self, models: Sequence[tuple[str, Values, int, dict[str, str]]]) -> None:
        for params, values, step, tags in models:
            logged = self._logged_models.get(params)
            if not logged:  # else it was logged, and registering it did not get through
                ids, serving = (self.experiment, self.run_id), serving_of(self.run.config)
                logged = self._logged_models[params] = log_model(self.client, ids, Path(params), step, serving)
            self.served = f"models:/{logged}"
            if self.settings.register:
                about = {**tags, **version_tags(self.run.facts)}
                self.served = register(self.client, self.settings.register, logged, values, about)

    def _send_status(self, ends: Sequence[tuple[str, Values, int, dict[str, str]]]) -> None:
        from mlflow.entities import RunTag

        for status, values, step, tags in ends:
            final = {FINAL + name: value for name, value in values.items()}
            self._send_metrics([(final, step, int(time.time() * 1000))])
            entities = [RunTag(name, shortened(text, TAG_LENGTH)) for name, text in tags.items()]
            self.client.log_batch(self.run_id, tags=entities, synchronous=True)
            self.client.set_terminated(self.run_id, STATUS[status])
        if self._sweep:
            self._sweep.leave()


def guarded(call: Callable[[], None], tracking_uri: str, always: bool = False) -> None:
    """Errors: TryAgainError for those of `call` that another time may not have, or for all but a UserError; else its
    own. tracking_uri: of the store that it calls."""
    try:
        call()
    except UserError:
        raise
    except Exception as error:
        if always or _may_pass(error):
            hint = missing(tracking_uri) if _asks_who(error) else ""
            raise TryAgainError(f"{first_line(error)}{hint}") from error
        raise


def _asks_who(error: Exception) -> bool:
    """Whether a server may have refused because of missing credentials."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    refused = isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403)
    return refused or (isinstance(error, OperationalError) and "sqlite3" not in str(error))


def _datasets(facts: dict[str, str]) -> list[Any]:
    """The splits with their hashes, for MLflow's column of datasets."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    prefix = "dataset.hash."
    splits = {name.removeprefix(prefix): digest for name, digest in facts.items() if name.startswith(prefix)}
    return [
        DatasetInput(
            Dataset(facts["dataset.name"], digest, source_type="local", source="{}"),
            tags=[InputTag("mlflow.data.context", split)],
        )
        for split, digest in splits.items()
    ]


def _may_pass(error: Exception) -> bool:
    """Whether trying again later can help: the network, a busy server, a database another process has locked."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    if isinstance(error, MlflowException):
        code = error.get_http_status_code()
        return code >= 500 or code in RETRY_STATUS
    lost = (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError, OperationalError)
    return isinstance(error, lost)
