"""Which servers and databases a run may be recorded in: those that the user names.

The files of a run may be somebody else's, and so may the server in them, which would be sent the run, the user's files
and the token of the user's environment. Users name a store in what they type, in a YAML file of a --config-dir, or in
MLFLOW_TRACKING_URI; conf/ names the default. A file of a run alone is enough only for a database below the working
directory and outside of the run.

Imports nothing heavy.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ssd.config.credentials import IN_TEXT, START, TRACKING, bare, take_values
from ssd.config.overrides import config_folders, key_of
from ssd.config.paths import CONF
from ssd.config.targets import typed_keys, typed_overrides
from ssd.utils.errors import UserError
from ssd.utils.flatten import each_leaf, leaves

LOGGER = "logger"
SHOWN = 200  # characters of a path in a message
SQLITE = "sqlite:///"
ARTIFACTS = "logger.mlflow.artifacts"
NAMES = ("_target_", "experiment", "register", "pattern")  # keys of a logger whose values are no paths
SHAPES = "ssd.data.datasets.shapes.Shapes"  # which writes its images into root
RECORDS = "training.records"
CACHE = re.compile(r"dataset\.(.+\.)?holdout\.cache")
ROOT = re.compile(r"dataset\.(.+\.)?root")


def is_named(address: str) -> bool:
    """Whether the user names this store, conf/ does, or the program is a Python program of the user's own."""
    return is_typed(address) or "://" in address and _same(address) in {_same(one) for one in _addresses(CONF / LOGGER)}


def is_typed(address: str) -> bool:
    """Whether the user names this store, on the command line, in a file of theirs or in the environment."""
    overrides = typed_overrides()
    if overrides is None:
        return True
    return "://" in address and _same(address) in {_same(one) for one in _typed(overrides)}


def _typed(overrides: list[str]) -> Iterator[str]:
    yield from (bare(match[0]) for override in overrides for match in IN_TEXT.finditer(override))
    yield bare(os.environ.get(TRACKING, ""))
    for folder in config_folders(overrides):
        yield from _addresses(Path(folder))


def is_followed(address: str, run: Path | None = None) -> bool:
    """Whether a store that a file of the directory `run` names is used: it is named by the user, too, or a database
    below the working directory and outside of `run`."""
    if is_named(address):
        return True
    file = _database(address)
    return file is not None and is_below_here(file) and (run is None or not file.is_relative_to(run.resolve()))


def refused(value: Any, key: str, run: Path | None = None) -> str | None:
    """Why the value that a file of a run gives a key of the configuration is not used; None if it is.

    run: the run directory that the value is out of, where it is known.
    """
    if not key.startswith(f"{LOGGER}.") or not isinstance(value, str) or typed_overrides() is None:
        return None
    if "://" in value and not is_followed(value, run):
        return (
            f"only a file of that run names this store; if it is yours, add {key}={value}, "
            f"else name another one or leave it out with {LOGGER}=[csv]"
        )
    if key == ARTIFACTS and not is_below_here(Path(value)):
        return f"it leads out of the working directory; if that is meant, add {key}={value}"
    if _leads_out(value) and key != ARTIFACTS and "://" not in value and key.rpartition(".")[2] not in NAMES:
        return f"it leads out of the run directory; if that is meant, add {key}={value}"
    return None


def check_named(logger: Any, run: Path) -> None:
    """Errors: UserError for a store or place in the plain cfg.logger that only the files of `run` name."""
    for key, value in leaves({LOGGER: logger}).items():
        for one in value if isinstance(value, list) else [value]:
            if key not in typed_keys() and (reason := refused(one, key, run)):
                raise UserError(f"{run}: its {key}={one} is not used; {reason}")


def places(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, path) of what a run writes beside its run directory and its loggers."""
    for key, value in leaves(dict(config)).items():
        root = ROOT.fullmatch(key) and _at(config, f"{key.rpartition('.')[0]}._target_") == SHAPES
        if isinstance(value, str) and (key == RECORDS or CACHE.fullmatch(key) or root):
            yield key, value


def check_places(config: Mapping[str, Any], source: Path) -> None:
    """Errors: UserError for a place to write in a plain configuration, of the run or model `source`, that lies out of
    the working directory and that the user does not repeat."""
    overrides = typed_overrides()
    if overrides is None:
        return
    typed = {_value_of(override) for override in overrides if _may_be_place(override)}
    for key, value in sorted(places(config), key=lambda place: place[0] != RECORDS):
        if not is_below_here(Path(value)) and value not in typed and key not in typed_keys():
            raise UserError(
                f"{source}: its {key}={value[:SHOWN]} is not used; it leads out of the working directory; if that is "
                f"meant, add {key}={value[:SHOWN]}"
            )


def _at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def _may_be_place(override: str) -> bool:
    key = key_of(override)
    return key == RECORDS or any(pattern.fullmatch(key) for pattern in (CACHE, ROOT))


def check_place(location: str, store: str, artifacts: str | None = None) -> None:
    """location: where the database `store` has artifacts sent, read as MLflow reads it; artifacts: the folder that the
    configuration names.

    Errors: UserError for a server or a folder out of the working directory, unless the user names the store or the
    folder: the database may have come with somebody else's run.
    """
    if is_typed(store):
        return
    allowed = [Path.cwd(), *([Path(artifacts)] if artifacts else [])]
    if not any(_is_inside(_folder(location), one.resolve()) for one in allowed):
        shown = "".join(one if one.isprintable() else "?" for one in bare(location)[:60])
        raise UserError(
            f"this database sends artifacts to {shown}; if that is meant, name it with "
            f"logger.mlflow.tracking_uri={store}"
        )


def _folder(location: str) -> Path:
    """The folder that MLflow takes a location for, / for what is no plain path or file: URI: it is stripped of blanks
    and control characters before its scheme is looked for."""
    scheme = urlsplit(location).scheme
    strange = location != location.strip() or not location.isprintable() or "\0" in unquote(location)
    path = location
    if scheme == "file" and location.startswith("file:") and not strange:
        parts = urlsplit(location)
        strange, path, scheme = bool(parts.netloc or parts.query or parts.fragment), unquote(parts.path), ""
    return Path("/" if strange or scheme or "://" in path else path).resolve()


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder, also where what follows the folder is percent-decoded."""
    if not path.is_relative_to(folder):
        return False
    return (folder / unquote(str(path.relative_to(folder))).lstrip("/")).resolve().is_relative_to(folder)


def typed_stores() -> list[str]:
    """Those of the user's overrides that name a store or a place to write out of the working directory, to be named
    again with every command for the same run."""
    return [override for override in typed_overrides() or [] if _is_typed_store(override.lstrip("+"))]


def _is_typed_store(override: str) -> bool:
    outside = _leads_out(_value_of(override))
    if override.startswith(f"{LOGGER}."):
        return "://" in override or outside
    return _may_be_place(override) and outside


def _value_of(override: str) -> str:
    return override.partition("=")[2].strip("'\"")


def _leads_out(path: str) -> bool:
    """Whether a path, as it is written, may be of elsewhere than below the directory that it is taken from."""
    return Path(path).is_absolute() or ".." in Path(path).parts


def _same(address: str) -> str:
    """What equal addresses have in common."""
    file = _database(address)
    return str(file) if file is not None else bare(address).rstrip("/")


def _database(address: str) -> Path | None:
    """The file of an SQLite address, as the logger of MLflow reads it."""
    return Path(address.removeprefix(SQLITE)).resolve() if address.startswith(SQLITE) else None


def is_below_here(path: Path) -> bool:
    """Whether a path lies in the working directory, symbolic links followed."""
    return path.resolve().is_relative_to(Path.cwd().resolve())


def _addresses(folder: Path) -> Iterator[str]:
    """The addresses that YAML files in a folder of the user's, or conf/, contain."""
    import yaml
    from omegaconf._utils import get_yaml_loader

    for file in folder.rglob("*.yaml"):
        try:
            content = yaml.load(file.read_text(encoding="utf-8"), get_yaml_loader())
        except (OSError, ValueError, yaml.YAMLError):  # Hydra reports what it reads of them
            continue
        for _, value in each_leaf(take_values(content), enters=lambda key: True):
            if isinstance(value, str) and START.match(value):
                yield value
