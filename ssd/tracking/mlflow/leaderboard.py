"""A sweep's leaderboard as artifacts of the run that stands for the sweep, in every store its jobs were recorded in."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ssd.config.credentials import whole
from ssd.config.stores import SQLITE, check_place, is_followed
from ssd.runs.saved import CONFIG, read_config
from ssd.tracking.mlflow import configure_mlflow
from ssd.tracking.mlflow.outbox import Entry, Outbox
from ssd.tracking.mlflow.store import DRIVER, RUN_FILE, RUN_FILE_BYTES, address, guarded
from ssd.tracking.mlflow.sweep import PARENT
from ssd.utils.atomic_files import read_json
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)


def send_leaderboard(sweep: Path, files: Sequence[Path]) -> None:
    """Waits for a store as long as the jobs do; one that does not answer costs a line. Replaces files sent before."""
    for tracking_uri, (job, run_id) in _stores(sweep).items():
        configure_mlflow()
        settings = read_config(job / CONFIG)["logger"]["mlflow"]
        outbox = Outbox(partial(_send, tracking_uri, run_id), "mlflow", len(files), settings["retry_seconds"])
        for file in files:
            outbox.put("artifact", str(file), vital=True)
        waiting, lost = outbox.close(settings["flush_seconds"])
        if waiting or lost:
            log.warning("mlflow: the leaderboard was not sent to %s; it is in %s", tracking_uri, sweep)


def _stores(sweep: Path) -> dict[str, tuple[Path, str]]:
    """Address of each store -> the folder of a job that has a run in it, and that run's id."""
    found = {}
    for file in sweep.glob(f"*/{RUN_FILE}"):
        place = read_json(file, RUN_FILE_BYTES, "the place of a run in a store")
        try:
            tracking_uri, run_id = str(place["tracking_uri"]), str(place["run_id"])
        except (KeyError, TypeError) as error:
            raise UserError(f"{file}: damaged, it does not name a run of a store") from error
        if is_followed(address(tracking_uri), sweep):  # of jobs that this process did not start, too
            found[tracking_uri] = (file.parent, run_id)
    return found


def _send(tracking_uri: str, run_id: str, entries: Sequence[Entry]) -> None:
    """On the outbox's thread."""
    guarded(lambda: _log(tracking_uri, run_id, [entry.content for entry in entries]), tracking_uri)


def _log(tracking_uri: str, run_id: str, files: Sequence[str]) -> None:
    from mlflow import MlflowClient

    client: Any = MlflowClient(whole(tracking_uri))
    parent = client.get_run(run_id).data.tags[PARENT]
    if tracking_uri.startswith((SQLITE, DRIVER)):
        check_place(client.get_run(parent).info.artifact_uri, address(tracking_uri))
    for file in files:
        client.log_artifact(parent, file)
