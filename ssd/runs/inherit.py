"""Overrides that the command line leaves out because a model implies them.

A training with init.network=weights, as experiments=finetune has it, takes backbone, head and data shape from the model
it starts from.

job=eval and job=deploy of a run measure on the dataset it was trained with, unless the command line names another.

The dataset overrides of the run's own command line go in front of the new ones, and so does what a recipe
(experiments=) says of the dataset. Everything else that a model needs travels in its checkpoint.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ssd.config.compose import compose
from ssd.config.overrides import composable, in_grammar, key_of, normalize, sweep_points, value_of
from ssd.config.targets import literal
from ssd.config.text import quoted
from ssd.config.weights import is_registered, read_entry
from ssd.runs.saved import CONFIG, OVERRIDES, allowed_overrides, is_evaluated, read_config, read_overrides
from ssd.utils.atomic_files import read_limited
from ssd.utils.errors import UserError

JOBS = ("eval", "deploy")
OWN = re.compile(r"[+~]*dataset[.=@]")
MAX_GRAPH = 64_000_000  # bytes, as ssd/checkpoint/graph_file.py, which needs MXNet, reads at most
OWN_NETWORK = re.compile(r"[+~]*(backbone|data_shape|head|compat)[.=@]")


def inherit(overrides: Sequence[str]) -> list[str]:
    """The overrides, behind those that a model implies.

    Errors: UserError for a model whose backbone or dataset does not exist today, and for a backbone= that differs from
    the model's.
    """
    return _with_dataset([*_network(overrides), *overrides])


def _network(overrides: Sequence[str]) -> list[str]:
    """The overrides for the network of init.weights, where init.network requests it."""
    if value_of(overrides, "job") in JOBS or not any(
        re.match(r"\+*(init\.|experiments=)", override) for override in overrides
    ):
        return []
    plain = composable(overrides)
    found = []
    for point in sweep_points(plain):
        init = compose(point).init
        if init.network == "weights" and init.weights is not None:
            found.append((init.weights, _network_of(init.weights, plain)))
    if not found:
        return []
    (first, network), *others = found
    if different := [weights for weights, other in others if other != network]:
        raise UserError(
            f"init.weights={first},{different[0]}: these models have different networks, and a sweep has one; leave "
            "one out, or say init.network=config with a backbone= and a data_shape="
        )
    return network


def _network_of(weights: str, overrides: Sequence[str]) -> list[str]:
    if is_registered(weights):
        return _published_network(weights, overrides)
    path = Path(weights)
    saved = _saved_network(path) or network_of_spec(path)
    if saved is None:
        return []  # what reads the file reports what is wrong with it
    try:
        name, choice, data_shape = saved["backbone"]["name"], str(saved["choice"]), saved["data_shape"]
        shape = data_shape["height"], data_shape["width"]
        parts = {node: dict(saved.get(node, {})) for node in ("backbone", "head")}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"init.weights={weights}: damaged, its configuration lacks backbone or data shape") from error
    given = {override.lstrip("+").partition("=")[0].partition(".")[0] for override in overrides if "=" in override}
    requested = value_of(overrides, "backbone")
    if requested is not None and requested != choice:
        raise UserError(
            f"backbone={requested}: init.weights={weights} is a model of backbone {name}, whose layers do not fit; "
            "leave backbone= out, or name a model of it"
        )
    front = [] if "backbone" in given else [f"backbone={quoted(choice)}"]
    if "data_shape" not in given:
        front.append(f"data_shape={shape[0]}" if shape[0] == shape[1] else f"data_shape=[{shape[0]},{shape[1]}]")
    if "compat" not in given and saved.get("compat") is not None:
        front.append(f"compat={saved['compat']}")
    front = allowed_overrides(front, f"init.weights={weights}")
    settings = [
        override for override in overrides if override.startswith("hydra.searchpath=") or OWN_NETWORK.match(override)
    ]
    today: Any = OmegaConf.to_container(compose([*front, *settings]), resolve=True)
    nodes = ["backbone"]
    if shape == (today["data_shape"]["height"], today["data_shape"]["width"]):
        nodes.append("head")  # at another shape it may have other layers
    for node in nodes:
        front += allowed_overrides(list(_overrides(node, parts[node], today[node])), f"init.weights={weights}")
    return [override for override in front if not any(one.startswith(f"{key_of(override)}=") for one in overrides)]


def _published_network(weights: str, overrides: Sequence[str]) -> list[str]:
    """The overrides for the network of a detector of the registry. Errors: UserError for a backbone= that differs."""
    given = {key_of(override).partition(".")[0] for override in overrides}
    requested = value_of(overrides, "backbone")
    entry = read_entry(weights)
    if entry.detector and requested is not None and requested not in entry.backbones:
        raise UserError(f"backbone={requested}: init.weights={weights} is a model of backbone {entry.backbones[0]}; "
                        "leave backbone= out")  # fmt: skip
    return [override for override in normalize(entry.overrides) if key_of(override).partition(".")[0] not in given]


def _saved_network(path: Path) -> dict[str, Any] | None:
    """Backbone, head, data shape and compat of the training that the weights are of, from its run directory."""
    for place in (path, *path.parents[:2]):
        if (place / "config.yaml").is_file():
            saved = read_config(place / CONFIG)
            hydra = place / ".hydra" / "hydra.yaml"
            try:
                if saved["job"]["name"] != "train":
                    return None
                choices = read_config(hydra)["hydra"]["runtime"]["choices"] if hydra.is_file() else {}
                return {**saved, "choice": choices.get("backbone", saved["backbone"]["name"])}
            except (KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{place}: damaged, it does not say which backbone was trained") from error
    return None


def network_of_spec(path: Path) -> dict[str, Any] | None:
    """The same of a .params file or a deploy bundle by itself: what its graph says, without its head."""
    folder = path if path.is_dir() else path.parent
    prefix = re.sub(r"-\d{4,}(\+\d+)?$", "", path.stem) if path.suffix == ".params" else "ssd"
    try:
        graph = json.loads(read_limited(folder / f"{prefix}-symbol.json", MAX_GRAPH, "a graph"))
        data = next(node for node in graph["nodes"] if node["name"] == "data")
        spec = json.loads(data["attrs"]["__ssd_model__"])
        return {
            "choice": spec["backbone"],
            "backbone": {"name": spec["backbone"], "input": {"mean": spec["mean"], "std": spec["std"]}},
            "data_shape": {"height": spec["height"], "width": spec["width"]},
            "compat": spec["compat"],
        }
    except (UserError, OSError, ValueError, RecursionError, KeyError, TypeError, StopIteration):
        return None  # what reads the file reports what is wrong with it


def _with_dataset(overrides: Sequence[str]) -> list[str]:
    """The overrides, behind those for the dataset of the run that model= names or lies in."""
    values = dict(override.split("=", 1) for override in overrides if "=" in override)
    run = _run_of(Path(value_of(overrides, "model") or ""))
    if values.get("job") not in JOBS or "dataset" in values or run is None:
        return list(overrides)
    said = [override for override in read_overrides(run / OVERRIDES) if OWN.match(str(override))]
    own = allowed_overrides(said, f"model={run}")
    if "experiments" in values:  # whose dataset counts then
        return [*own, *overrides]
    settings = [override for override in composable(overrides) if override.startswith("hydra.searchpath=")]
    return [*_as_composed(run, own, settings, "compat" not in values), *overrides]


def _run_of(model: Path) -> Path | None:
    """The run directory that a model is or lies in: RUN, RUN/ssd-bundle, RUN/checkpoints/ssd-0012.params."""
    places = (model, *model.parents[:2])
    return next((place for place in places if (place / ".hydra" / "overrides.yaml").is_file()), None)


def _as_composed(run: Path, own: Sequence[str], settings: Sequence[str], with_compat: bool) -> list[str]:
    """`own` and what else makes the dataset that Hydra composed for the run, before class names were looked up."""
    if not all((run / ".hydra" / name).is_file() for name in ("config.yaml", "hydra.yaml")):
        return list(own)
    saved, hydra = (read_config(run / ".hydra" / name) for name in ("config.yaml", "hydra.yaml"))
    try:
        choice, chosen, compat = (
            hydra["hydra"]["runtime"]["choices"]["dataset"],
            dict(saved["dataset"]),
            saved["compat"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run / '.hydra'}: damaged, it does not say which dataset was chosen") from error
    front = list(own) if any(override.startswith("dataset=") for override in own) else [f"dataset={choice}", *own]
    if with_compat and compat is not None:  # it decides how coordinates are read
        front.insert(0, f"compat={compat}")
    front = allowed_overrides(front, f"model={run}")
    today: Any = OmegaConf.to_container(compose([*settings, *front]).dataset)
    differing = _overrides("dataset", _as_found(chosen, run), today)
    return [*front, *allowed_overrides(list(differing), f"model={run}")]


def _as_found(chosen: Mapping[str, Any], run: Path) -> Any:
    """`chosen` with the values that the run found where it was evaluated, as plain text."""
    found = read_config(run / CONFIG).get("dataset") if (run / CONFIG).is_file() else None
    return _evaluated(chosen, found)


def _evaluated(chosen: Any, found: Any) -> Any:
    if isinstance(chosen, Mapping) and isinstance(found, Mapping):
        return {name: _evaluated(value, found.get(name)) for name, value in chosen.items()}
    return literal(found) if isinstance(chosen, str) and isinstance(found, str) and is_evaluated(chosen) else chosen


def _overrides(key: str, saved: Mapping[str, Any], today: Mapping[str, Any]) -> Iterator[str]:
    """An override for every value of `saved` that `today` has otherwise or not at all."""
    for name, value in saved.items():
        if isinstance(value, Mapping) and isinstance(today.get(name), Mapping):
            yield from _overrides(f"{key}.{name}", value, today[name])
        elif name not in today or today[name] != value:
            yield f"++{key}.{name}={in_grammar(value)}"
