"""What a configuration may have called or started: names that are the program's own, or that its user has given.

`_target_` names code, and a configuration may come out of a file that anybody made: that of a run, of a model. On the
command line a target must therefore be one of conf/, or be named by the overrides that were typed or by a file of their
--config-dir; `confined` keeps these, for the processes that this one starts, too. A Python program that makes
datasets and writers out of its own configuration is not confined.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ssd.config.credentials import whole_values
from ssd.config.overrides import config_folders, key_of
from ssd.config.paths import CONF
from ssd.utils.errors import UserError
from ssd.utils.flatten import map_texts

SAID = "SSD_SAID"  # environment variable: what the user typed, as JSON, before overrides of files were added
TARGET = "_target_"
NAMED = re.compile(r"""_target_["']?[ \t]*[:=][ \t]*["']?([\w.]+(?:[ \t]*,[ \t]*[\w.]+)*)""")
COMMENT = re.compile(r"(?:^|(?<=\s))#.*", re.MULTILINE)
Kind = TypeVar("Kind")

SPECIAL = re.compile(r"_\w+_")  # keys that Hydra does not hand over but obeys


@contextmanager
def confined(overrides: Sequence[str]) -> Iterator[None]:
    """Inside, targets are those of the program and those that these overrides of the command line name."""
    before = os.environ.get(SAID)
    os.environ[SAID] = json.dumps(list(overrides))
    try:
        yield
    finally:
        os.environ.pop(SAID)
        if before is not None:
            os.environ[SAID] = before


def make(node: Any, group: str, where: str, **options: Any) -> Any:
    """What Hydra makes of `node` with these options, once its targets are known to be all right. Lists and dicts in it
    are handed over as such, texts as they are; classes of the user's own get addresses with their credentials.

    Errors: as check_targets; a UserError of what is called; else as hydra.utils.instantiate.
    """
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    check_targets(plain, group, where)
    if isinstance(plain, Mapping) and not str(plain.get(TARGET)).startswith("ssd."):
        plain = whole_values(plain)  # the program's own request credentials where they connect
    # Twice: Hydra evaluates what it is given, and then what came of it.
    try:
        return instantiate(literal(literal(plain)), **{"_convert_": "all", **options})
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def make_all(configured: Mapping[str, Any] | None, group: str, kind: type[Kind], complaint: str) -> dict[str, Kind]:
    """Of cfg.<group>, name -> {_target_, options}, what each entry makes; nothing of null or {}.

    Errors: UserError naming the entry that is not of this kind, with the complaint, or has a wrong option.
    """
    made: dict[str, Kind] = {}
    for name, options in (configured or {}).items():
        try:
            one = make(options, group, f"{group}.{name}")
        except InstantiationException as error:
            raise UserError(f"{group}.{name}: {str(error.__cause__ or error).splitlines()[0]}") from error
        if not isinstance(one, kind):
            raise UserError(f"{group}.{name} {complaint}")
        made[str(name)] = one
    return made


def literal(node: Any) -> Any:
    """Plain data made into what OmegaConf reads as just that: no text in it is an interpolation. ??? stays what it is,
    a missing value: it has no such form."""
    return map_texts(node, lambda text: re.sub(r"(\\*)\$\{", r"\1\1\\${", text))


def typed_overrides() -> list[str] | None:
    """The overrides that the user typed; None in a program that is not confined."""
    overrides = os.environ.get(SAID)
    return None if overrides is None else json.loads(overrides)


def typed_keys() -> set[str]:
    """The keys that these overrides give values."""
    return {key_of(override) for override in typed_overrides() or []}


def typed_targets() -> list[str]:
    """Those of the overrides that name a target: to be said again with every command for the same run."""
    return [override for override in typed_overrides() or [] if _names(override)]


def check_targets(node: Any, group: str, where: str) -> None:
    """Errors: UserError for a target anywhere in `node` that neither the program has in conf/<group> nor the user has
    named. where: the key of `node`. Imports nothing."""
    for key, name in targets(node, where):
        if not is_known(name, group):
            raise UserError(f"{key}={name}: {refusal(key, name)}")


def refusal(key: str, name: Any) -> str:
    return f"a file may not name code that is not the program's own; if you trust it, say it yourself: {key}={name}"


def is_known(name: Any, group: str) -> bool:
    """Whether the program or its user names this target; always in a program that is not confined."""
    return typed_overrides() is None or (isinstance(name, str) and (name in own(group) or name in users()))


def targets(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every target at any depth."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == TARGET:
                if value is not None:
                    yield f"{key}.{name}", value
            else:
                yield from targets(value, f"{key}.{name}")
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from targets(value, f"{key}.{number}")


@lru_cache
def own(group: str) -> frozenset[str]:
    """The targets of conf/<group>, and of recipes."""
    return frozenset([*named_in(CONF / group), *named_in(CONF / "experiments")])


def users() -> frozenset[str]:
    """The targets that the user's overrides, and YAML files of the folders that they name, contain."""
    return _users(os.environ.get(SAID, "[]"))


@lru_cache
def _users(said: str) -> frozenset[str]:
    overrides = json.loads(said)
    found = {name for override in overrides for name in _names(override)}
    return frozenset(found.union(*(named_in(Path(folder)) for folder in config_folders(overrides))))


def named_in(folder: Path) -> Iterator[str]:
    for file in folder.rglob("*.yaml"):
        if file.is_file():
            yield from _names(COMMENT.sub("", file.read_text(encoding="utf-8", errors="replace")))


def _names(text: str) -> list[str]:
    return [name for found in NAMED.findall(text) for name in re.findall(r"\w+(?:\.\w+)+", found)]
