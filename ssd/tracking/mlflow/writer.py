"""MLflow: one run per run, with its configuration as parameters, its metrics, its artifacts and its best model.

The store is a database file by default and may be a server. Every call to it is made by the outbox's thread, so that
a server that is slow or gone costs the training nothing; what it did not take stays in the run directory.
"""

import importlib.util
import logging
import re
import time
from pathlib import Path

import numpy as np

from ssd.config.commands import shell_command
from ssd.config.credentials import bare, take
from ssd.config.stores import SQLITE
from ssd.runs.results import Results
from ssd.tracking import unsent
from ssd.tracking.events import RunInfo, Values, Writer, epoch_namespace, finite
from ssd.tracking.files import image_path
from ssd.tracking.mlflow import configure_mlflow
from ssd.tracking.mlflow.names import shortened, tags_of
from ssd.tracking.mlflow.outbox import Entry, Outbox
from ssd.tracking.mlflow.store import Settings, Store, database_uri
from ssd.utils.atomic_files import unwritable
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

EXPERIMENT_LENGTH = 250  # characters of its name that every store takes
WAITING = 20_000  # rows of metrics, about a kilobyte each
REGISTERED = re.compile(r"[^/:.%'\"]+")  # names a model can be registered and found under


class MLflow(Writer):
    """Sends the run to an MLflow store.

    tracking_uri: sqlite:///file (relative to the working directory), or a server (http://host:5000)
    artifacts: folder for artifacts of a sqlite store; a server has its own place for them
    register: name in the registry of models under which the best model becomes a version; null = in the run only
    flush_seconds: how long closing waits for what is not sent yet
    retry_seconds: pause before a store that failed is tried again
    """

    def __init__(
        self,
        tracking_uri: str,
        artifacts: str,
        experiment: str,
        register: str | None,
        flush_seconds: float,
        retry_seconds: float,
    ) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise UserError("logger mlflow: MLflow is not installed: pip install mlflow, or choose other loggers")
        if "://" not in tracking_uri or tracking_uri.startswith("file:"):
            raise UserError(
                f"logger.mlflow.tracking_uri={bare(tracking_uri)}: MLflow no longer keeps runs in plain files; say "
                "sqlite:///path/mlflow.db or http://server:5000"
            )
        if not experiment.strip() or len(experiment) > EXPERIMENT_LENGTH or not experiment.isprintable():
            raise UserError(f"logger.mlflow.experiment={shortened(experiment, 60)!r}: expected a name of 1 to "
                            f"{EXPERIMENT_LENGTH} printable characters")  # fmt: skip
        if register is not None and not REGISTERED.fullmatch(register):
            raise UserError(f"logger.mlflow.register={register}: a model's name is text without / : . % or quotes")
        if tracking_uri.startswith(SQLITE):
            file = Path(tracking_uri.removeprefix(SQLITE)).resolve()
            for key, path in (("tracking_uri", file), ("artifacts", Path(artifacts).resolve() / "x")):
                if reason := unwritable(path):
                    raise UserError(f"logger.mlflow.{key}: {reason}; name another place, or choose other loggers")
            tracking_uri = database_uri(file)
        tracking_uri = take(tracking_uri)
        self.settings = Settings(tracking_uri, str(Path(artifacts).resolve()), experiment, register)
        self.flush_seconds = flush_seconds
        self.retry_seconds = retry_seconds

    def start(self, run: RunInfo) -> None:
        configure_mlflow()
        self.run = run
        self._last_step = run.resumed_at or 0
        self._images: set[Path] = set()  # that wait: a later one of the same tag takes the place of an earlier
        go_on = run.resumed_at is not None
        self.store = Store(self.settings, run, go_on)
        self.outbox = Outbox(self._send, "mlflow", WAITING, self.retry_seconds)
        self.outbox.put("run", None, vital=True)
        self.outbox.put("parameters", None, vital=True)
        for entry in unsent.pending_entries(run) if go_on else []:
            self.outbox.put(entry.kind, entry.content)

    def step(self, epoch: int, step: int, values: Values) -> None:
        self._metrics({"epoch": epoch, **values}, step)

    def epoch(self, epoch: int, step: int, values: Values) -> None:
        self._metrics({"epoch": epoch, **epoch_namespace(values)}, step)

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        path = image_path(self.run.folder, tag)  # RunFiles, a writer of every run, puts it there
        if path not in self._images:
            self._images.add(path)
            self.artifact(path, path.parent.name)

    def artifact(self, path: Path, folder: str = "") -> None:
        self.outbox.put("artifact", (str(path.resolve()), folder), vital=True)

    def model(self, params: Path, results: Results) -> None:
        content = str(params.resolve()), finite(results.flat()), self._step_of(results), tags_of(results)
        self.outbox.put("model", content, vital=True)

    def close(self, results: Results) -> None:
        numbers = results.flat()
        if numbers:
            known = {"epoch": results.epoch, "step": results.step}
            numbers |= {name: value for name, value in known.items() if value is not None}
        content = results.status, finite(numbers), self._step_of(results), tags_of(results)
        self.outbox.put("status", content, vital=True)
        waiting, lost = self.outbox.close(self.flush_seconds)
        if lost:
            log.warning("mlflow: not recorded at %s: %s", self.settings.tracking_uri, unsent.counts(lost))
        if waiting:
            kept = unsent.keep(self.run, self.settings, waiting)
            log.warning(
                "mlflow: not sent to %s: %s; kept in %s, to send it later: %s",
                self.settings.tracking_uri, unsent.counts(unsent.kinds(waiting)), kept,
                unsent.command(self.run.folder, self.settings.tracking_uri),
            )  # fmt: skip
        else:
            unsent.forget(self.run.folder)
        if self.store.served:
            arguments = ("models", "serve", "-m", self.store.served, "--env-manager", "local")
            where = f"MLFLOW_TRACKING_URI={self.settings.tracking_uri}"
            log.info("%-12s %s", "serve", shell_command("mlflow", *arguments, environment=[where]))

    def where(self) -> str | None:
        if not self.store.run_id:
            return None  # nothing has reached the store, and a file may not even be there
        uri = self.settings.tracking_uri
        return shell_command("mlflow", "ui", "--backend-store-uri", uri) if self.settings.local else uri

    def _step_of(self, results: Results) -> int:
        return self._last_step if results.step is None else results.step

    def _metrics(self, values: Values, step: int) -> None:
        self._last_step = step
        self.outbox.put("metrics", (finite(values), step, int(time.time() * 1000)))

    def _send(self, entries: list[Entry]) -> None:
        """On the outbox's thread."""
        contents = [entry.content for entry in entries]
        if entries[0].kind == "artifact":
            self._images -= {Path(path) for path, _ in contents}  # before they are read: a newer one goes again
        self.store.send(entries[0].kind, contents)
