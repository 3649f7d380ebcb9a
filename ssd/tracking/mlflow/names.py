"""What MLflow accepts as names and values, and the run's own made to fit."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ssd.runs.results import Conditions, Results
from ssd.utils.flatten import leaves

KEY_LENGTH, PARAM_LENGTH, TAG_LENGTH = 250, 6000, 5000
MEASURED = "measured"  # a tag
COLUMNS = {"mlflow.source.git.commit": "git.commit", "mlflow.user": "user"}  # of MLflow's own table of runs <- facts


def source_tags(facts: Mapping[str, str]) -> dict[str, str]:
    """The tags that MLflow's page shows as the source of a run."""
    known = {tag: facts[fact] for tag, fact in COLUMNS.items() if fact in facts}
    return {"mlflow.source.name": "ssd.run", "mlflow.source.type": "LOCAL", **known}


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """{"a": {"b": 1, "c": [1, 2]}, "d": {}} -> {"a.b": "1", "a.c": "[1, 2]"}: leaves as text; lists stay whole."""
    found = {}
    for key, value in leaves(config).items():
        if value != {}:
            text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
            found[clean(key)] = shortened(text, PARAM_LENGTH)
    return found


def tags_of(results: Results) -> dict[str, str]:
    """What the final numbers of a run stand for: their split, checkpoint and epoch, and how they were measured."""
    known = {"split": results.split, "checkpoint": results.checkpoint, "epoch": results.epoch, "step": results.step,
             "reason": results.reason}  # fmt: skip
    tags = {f"final.{name}": str(value) for name, value in known.items() if value is not None}
    how = results.measured.get(results.split)
    return {**tags, MEASURED: json.dumps(how.to_json())} if how else tags


def measured_in(tags: Mapping[str, str]) -> Conditions | None:
    """How the numbers of a run or a model's version with these tags were measured; None where no tag says so."""
    try:
        return Conditions.from_json(json.loads(tags[MEASURED]))
    except (KeyError, ValueError, TypeError):
        return None


def shortened(text: str, length: int) -> str:
    """At most `length` characters; what was cut says so and how long it was."""
    if len(text) <= length:
        return text
    end = f" … (cut, {len(text)} characters)"
    return text[: length - len(end)] + end


def clean(name: str) -> str:
    """A name MLflow accepts: of letters, digits, and _ - . space : and, as a path, without "", "." and ".." in it."""
    parts = re.sub(r"[^\w\-. :/]", "_", name)[:KEY_LENGTH].split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def short_overrides(overrides: list[str]) -> str:
    """Overrides as a name: ["backbone=small", "optimizer.learning_rate=0.1"] -> "backbone=small learning_rate=0.1"."""
    return " ".join(re.sub(r"^[+~]*[\w.@/-]*[.](?=\w+=)", "", override).lstrip("+~") for override in overrides)
