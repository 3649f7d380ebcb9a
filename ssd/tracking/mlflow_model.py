"""A run's best model in an MLflow store: logged so that it can be served, and a version in the registry of models."""

import tempfile
from pathlib import Path
from typing import Any

from ssd.tracking.events import RunInfo, Values
from ssd.tracking.mlflow_sweep import HEADLINE

NAME = "detector"  # of the logged model in its run
ALIAS = "best"  # of a registered model: models:/NAME@best
DATA = "dataset.hash.val"


def log_model(client: Any, experiment: str, run_id: str, params: Path, step: int) -> str:
    """Stores the checkpoint `params` as an MLflow model of the run; returns its id, of models:/<id>."""
    from mlflow.entities import LoggedModelOutput

    from ssd.interop.pyfunc import save

    model = client.create_logged_model(experiment, name=NAME, source_run_id=run_id, model_type="ssd")
    with tempfile.TemporaryDirectory(prefix="ssd-mlflow-") as draft:
        folder = Path(draft) / "model"
        save(folder, params, run_id, model.model_id)
        client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
    return model.model_id


def register(client: Any, name: str, model_id: str, run: RunInfo, numbers: Values) -> str:
    """Makes the logged model the next version of `name`; returns the version's address.

    The alias `best` goes to the version with the largest mAP, among those measured on the same validation pictures as
    this one: numbers of other pictures do not compare.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model = client.get_logged_model(model_id)
    tags = {key: f"{value:.6g}" for key, value in numbers.items() if "/" not in key}
    tags |= {key: text for key, text in run.facts.items() if key in (DATA, "git.commit", "dataset.name")}
    version = client.create_model_version(
        name, model.artifact_location, model.source_run_id, tags=tags, model_id=model_id
    ).version
    rivals = [
        other
        for other in client.search_model_versions(f"name = '{name}'")
        if other.tags.get(DATA) == tags.get(DATA) and HEADLINE in other.tags
    ]
    if rivals:
        best = max(rivals, key=lambda other: (float(other.tags[HEADLINE]), int(other.version)))
        client.set_registered_model_alias(name, ALIAS, best.version)
    return f"models:/{name}/{version}"
