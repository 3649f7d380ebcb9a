"""The MLflow writer: the store, names, sweeps, models, and what waits to be sent. Here: MLflow quiet, no telemetry."""

import logging
import os

# For what the user has not set: no reports to anybody, and requests that give up, because the outbox repeats them.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
# Libraries that would talk between our lines; what goes wrong is logged by the outbox.
NOISY = ("mlflow", "alembic", "urllib3.connectionpool")


def configure_mlflow() -> None:
    """Imports MLflow, set up to be silent and to give up early.

    On the main thread: two threads that import at the same time can trip over each other.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow.pyfunc  # noqa: F401

    for name in NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
