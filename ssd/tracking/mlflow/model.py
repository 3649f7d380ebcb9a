"""A run's best model in an MLflow store: logged so that it can be served, and a version in the registry of models."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ssd.config.paths import CONF
from ssd.runs.results import HEADLINE, Conditions, key_of, unlike
from ssd.tracking.events import Values
from ssd.tracking.mlflow.names import measured_in

log = logging.getLogger(__name__)

NAME = "detector"  # of the logged model in its run
ALIAS = "best"  # of a registered model: models:/NAME@best
DATA = "dataset.hash.val"


def log_model(client: Any, run: tuple[str, str], params: Path, step: int, serving: Mapping[str, Any]) -> str:
    """Stores the checkpoint `params` as an MLflow model of the run; returns its id, of models:/<id>.

    run: ids of the experiment and the run. serving: see ssd.serving.pyfunc.save.
    """
    from mlflow.entities import LoggedModelOutput

    from ssd.serving.pyfunc import save

    experiment, run_id = run
    model = client.create_logged_model(experiment, name=NAME, source_run_id=run_id, model_type="ssd")
    with tempfile.TemporaryDirectory(prefix="ssd-mlflow-") as draft:
        folder = Path(draft) / "model"
        save(folder, params, serving, run_id, model.model_id)
        client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
    return model.model_id


def version_tags(facts: Mapping[str, str]) -> dict[str, str]:
    """What of a run's facts a version of its model is tagged with."""
    return {key: text for key, text in facts.items() if key in (DATA, "git.commit", "dataset.name")}


def serving_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """How a run's configuration has its model served, see ssd.serving.pyfunc.save; of a run that is older than a key,
    its default."""
    usual: Any = OmegaConf.load(CONF / "config.yaml")
    pixels = (config.get("deploy") or {}).get("request_pixels", usual.deploy.request_pixels)
    return {"threshold": config.get("threshold", usual.threshold), "request_pixels": pixels}


def register(client: Any, name: str, model_id: str, numbers: Values, about: Mapping[str, str]) -> str:
    """Makes the logged model the next version of `name`, tagged with numbers and about; returns the version's address.

    The alias `best` goes to the version with the largest mAP among those measured as this one. Where it stands at one
    that was measured otherwise it stays, and a line says why.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model = client.get_logged_model(model_id)
    tags = {key: f"{value:.6g}" for key, value in numbers.items() if "/" not in key} | dict(about)
    version = client.create_model_version(
        name, model.artifact_location, model.source_run_id, tags=tags, model_id=model_id
    ).version
    _move_alias(client, name, measured_in(tags))
    return f"models:/{name}/{version}"


def _move_alias(client: Any, name: str, measured: Conditions | None) -> None:
    versions = client.search_model_versions(f"name = '{name}'")
    holder = client.get_registered_model(name).aliases.get(ALIAS)
    for version in versions:
        if str(version.version) != str(holder):
            continue
        if different := unlike([measured_in(version.tags), measured]):
            log.warning("mlflow: %s@%s stays at version %s, whose numbers do not compare with the new ones: %s; delete "
                        "the alias to have it set anew", name, ALIAS, holder, different)  # fmt: skip
            return
    rivals = [
        other for other in versions if key_of(measured_in(other.tags)) == key_of(measured) and HEADLINE in other.tags
    ]
    if rivals:
        best = max(rivals, key=lambda other: (float(other.tags[HEADLINE]), int(other.version)))
        client.set_registered_model_alias(name, ALIAS, best.version)
