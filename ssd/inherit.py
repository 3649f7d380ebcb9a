"""job=eval and job=deploy of a run measure on the data set it was trained with, unless the command line names another.

What the run's own command line said of it goes in front of the words, and what a recipe (experiments=) said as words of
that kind. Everything else that a model needs travels in its checkpoint.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ssd.config import compose
from ssd.overrides import composable, value_of
from ssd.text import in_quotes

JOBS = ("eval", "deploy")
OWN = re.compile(r"[+~]*dataset[.=@]")


def inherit(words: Sequence[str]) -> list[str]:
    """The words, behind those of the run that model= names or lies in. Errors: UserError when its data set is one of
    which today's program knows nothing."""
    values = dict(word.split("=", 1) for word in words if "=" in word)
    run = _run_of(Path(value_of(words, "model") or ""))
    if values.get("job") not in JOBS or "dataset" in values or run is None:
        return list(words)
    said = [str(word) for word in OmegaConf.load(run / ".hydra" / "overrides.yaml")]
    own = [word for word in said if OWN.match(word)]
    if "experiments" in values:  # whose data set counts then
        return [*own, *words]
    settings = [word for word in composable(words) if word.startswith("hydra.searchpath=")]
    return [*_as_composed(run, own, settings, "compat" not in values), *words]


def _run_of(model: Path) -> Path | None:
    """The run directory that a model is or lies in: RUN, RUN/ssd-bundle, RUN/checkpoints/ssd-0012.params."""
    places = (model, *model.parents[:2])
    return next((place for place in places if (place / ".hydra" / "overrides.yaml").is_file()), None)


def _as_composed(run: Path, own: Sequence[str], settings: Sequence[str], with_compat: bool) -> list[str]:
    """`own` and what else makes the data set that Hydra composed for the run, before class names were looked up."""
    if not all((run / ".hydra" / name).is_file() for name in ("config.yaml", "hydra.yaml")):
        return list(own)
    saved: Any = OmegaConf.to_container(OmegaConf.load(run / ".hydra" / "config.yaml"))
    hydra: Any = OmegaConf.load(run / ".hydra" / "hydra.yaml")
    choice = hydra.hydra.runtime.choices.dataset
    front = list(own) if any(word.startswith("dataset=") for word in own) else [f"dataset={choice}", *own]
    if with_compat and saved["compat"] is not None:  # it decides how coordinates are read
        front.insert(0, f"compat={saved['compat']}")
    today: Any = OmegaConf.to_container(compose([*settings, *front]).dataset)
    return [*front, *_words("dataset", saved["dataset"], today)]


def _words(key: str, saved: Mapping[str, Any], today: Mapping[str, Any]) -> Iterator[str]:
    """A word for every value of `saved` that `today` has otherwise or not at all."""
    for name, value in saved.items():
        if isinstance(value, Mapping) and isinstance(today.get(name), Mapping):
            yield from _words(f"{key}.{name}", value, today[name])
        elif name not in today or today[name] != value:
            yield f"++{key}.{name}={_literal(value)}"


def _literal(value: Any) -> str:
    """A value as Hydra's grammar reads it."""
    if isinstance(value, str):
        return in_quotes(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_literal, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
