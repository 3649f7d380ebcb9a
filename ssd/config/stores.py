"""Which servers and databases a run may be recorded in: those that the user names.

The files of a run may be somebody else's, and so may the server in them, which would be sent the run, the user's files
and the token of the user's environment. Users name a store in what they type, in a YAML file of a --config-dir, or in
MLFLOW_TRACKING_URI; conf/ names the default. A file of a run alone is enough only for a database below the working
directory and outside of the run.

Imports nothing heavy.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ssd.config.credentials import IN_TEXT, START, TRACKING, bare, take_values
from ssd.config.overrides import config_folders
from ssd.config.paths import CONF
from ssd.config.targets import said, said_keys
from ssd.utils.errors import UserError
from ssd.utils.flatten import leaves

LOGGER = "logger"
SQLITE = "sqlite:///"
ARTIFACTS = "logger.mlflow.artifacts"
INSIDE = ("logger.csv.file", "logger.tensorboard.folder")  # keys of what is written in the run directory


def is_named(address: str) -> bool:
    """Whether the user names this store, conf/ does, or the program is a Python program of the user's own."""
    return is_typed(address) or "://" in address and _same(address) in {_same(one) for one in _addresses(_conf())}


def is_typed(address: str) -> bool:
    """Whether the user names this store, on the command line, in a file of theirs or in the environment."""
    words = said()
    if words is None:
        return True
    return "://" in address and _same(address) in {_same(one) for one in _typed(words)}


def _typed(words: list[str]) -> Iterator[str]:
    yield from (bare(match[0]) for word in words for match in IN_TEXT.finditer(word))
    yield bare(os.environ.get(TRACKING, ""))
    for folder in config_folders(words):
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
    if not key.startswith(f"{LOGGER}.") or not isinstance(value, str) or said() is None:
        return None
    if "://" in value and not is_followed(value, run):
        return (
            f"only a file of that run names this store; if it is yours, add {key}={value}, "
            f"else name another one or leave it out with {LOGGER}=[csv]"
        )
    if key == ARTIFACTS and not is_below_here(Path(value)):
        return f"it leads out of the working directory; if that is meant, add {key}={value}"
    if key in INSIDE and (Path(value).is_absolute() or ".." in Path(value).parts):
        return f"it leads out of the run directory; if that is meant, add {key}={value}"
    return None


def check_named(logger: Any, run: Path) -> None:
    """Errors: UserError for a store or place in the plain cfg.logger that only the files of `run` name."""
    for key, value in leaves({LOGGER: logger}).items():
        for one in value if isinstance(value, list) else [value]:
            if key not in said_keys() and (reason := refused(one, key, run)):
                raise UserError(f"{run}: its {key}={one} is not used; {reason}")


def typed_stores() -> list[str]:
    """Those of the user's overrides that name a store, to be named again with every command for the same run."""
    return [word for word in said() or [] if word.lstrip("+").startswith(f"{LOGGER}.") and "://" in word]


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


def _conf() -> Path:
    return CONF / LOGGER


def _addresses(folder: Path) -> Iterator[str]:
    """The addresses that YAML files in a folder of the user's, or conf/, contain."""
    import yaml
    from omegaconf._utils import get_yaml_loader

    for file in folder.rglob("*.yaml"):
        try:
            content = yaml.load(file.read_text(encoding="utf-8"), get_yaml_loader())
        except (OSError, ValueError, yaml.YAMLError):  # Hydra reports what it reads of them
            continue
        yield from _texts(take_values(content))


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
    elif isinstance(node, str) and START.match(node):
        yield node
