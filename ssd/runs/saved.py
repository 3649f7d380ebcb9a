"""The configuration and the overrides that a run saved, read as data. Imports nothing heavy.

A run directory may have been made by anybody. Nothing in it is evaluated: `${oc.env:TOKEN}` is text. Its overrides
choose only from conf/, never change Hydra itself, and name no code (ssd/config/targets.py), no machine and no download
unless the user repeats them on the command line.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from ssd.config import stores
from ssd.config.credentials import bare_values
from ssd.config.overrides import current_overrides, groups, normalize, removed_key
from ssd.config.renamed import current_config, silent
from ssd.config.schema import Config
from ssd.config.targets import SPECIAL, TARGET, is_known, literal, refusal, typed_keys, typed_overrides
from ssd.utils.atomic_files import read_limited
from ssd.utils.errors import UserError
from ssd.utils.flatten import each_leaf

CONFIG = "config.yaml"
OVERRIDES = Path(".hydra", "overrides.yaml")
MAX_BYTES = 1_000_000
MISSING = "???"  # OmegaConf's mark for a value that must be given
CHOICE = re.compile(r"\w[\w.+-]*")  # of a group: a file of conf/<group>, no path
REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")  # to another key, the only interpolation that saved overrides may have
INTERPOLATION = re.compile(r"(?<!\\)(?:\\\\)*\$\{")
SHOWN = 200  # characters of an override in a message
# What reaches out of the run: programs, other machines, folders.
PERSONAL = re.compile(r"cluster\.(ssh|hosts|address|folder)")
# What is fetched and unpacked. A run that did so has it already.
FETCHED = re.compile(r"(dataset\.(parts\.\w+\.)?(download|mirror|archives)|init\.mirror)(\..*)?")


def read_config(file: Path) -> dict[str, Any]:
    """A saved configuration, as plain data. Errors: UserError for one that is damaged."""
    return parse_config(_bytes(file), str(file))


def parse_config(text: bytes | str, where: str) -> dict[str, Any]:
    """The same of its text. where: what it came from."""
    content = _parse(text, where)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{where}: damaged, it is no configuration")
    current: dict[str, Any] = current_config(content)
    return current


def read_overrides(file: Path) -> list[Any]:
    """A saved command line, as it is. Errors: UserError for one that is damaged."""
    content = _parse(_bytes(file), str(file))
    if not isinstance(content, list):
        raise UserError(f"{file}: damaged, it is no list of overrides")
    return content


def _bytes(file: Path) -> bytes:
    try:
        return read_limited(file, MAX_BYTES, "a saved configuration")
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error


def _parse(text: bytes | str, where: str) -> Any:
    from ssd.utils.plain_yaml import PlainYamlError, parse_yaml  # which starts slower than the command line may

    try:
        return bare_values(parse_yaml(text if isinstance(text, str) else text.decode()))
    except (PlainYamlError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: damaged ({error})") from error


def literal_names(names: Sequence[str]) -> list[str]:
    """Class names as values of a configuration. Errors: UserError for ???."""
    if MISSING in names:
        raise UserError(f"class {MISSING!r}: stands for a missing value in configurations; give the class another name")
    return [str(literal(name)) for name in names]


def allowed_overrides(overrides: Sequence[Any], where: str) -> list[str]:
    """The saved overrides of a run that are used again, as Hydra reads them: without its own keys and
    without downloads. where: the run, as the command line names it.

    Errors: UserError naming the first that is damaged, or does what only the user may ask for and does not.
    """
    gone = _replaced(typed_overrides() or [])
    anew = typed_keys() - {removed_key(item) for item in typed_overrides() or []}
    allowed: list[str] = []
    # From the last one on: what a later one removes is not used, whatever it is.
    for settled in reversed([settled for item in overrides for settled in _settled(item, where)]):
        if _is_allowed(settled, where, anew, gone):
            allowed.append(settled)
            gone.update(filter(None, [removed_key(settled)]))
    return allowed[::-1]


def _replaced(overrides: Sequence[str]) -> set[str]:
    """The keys of which a command line leaves nothing of what stands before it: those that it removes, or gives another
    value. Mappings are merged: what counts is the keys in them."""
    found = {key for item in overrides if (key := removed_key(item))}
    for item in overrides:
        try:
            override = OverridesParser.create().parse_override(normalize([item])[0])
        except (HydraException, UserError, ValueError):  # a flag
            continue
        if not override.is_delete() and not override.is_sweep_override():
            values = each_leaf(override.value(), str(override.key_or_group))
            found |= {key for key, value in values if "." in key and value != {}}
    return found


def _is_gone(key: str, gone: Collection[str]) -> bool:
    names = key.split(".")
    return any(".".join(names[: number + 1]) in gone for number in range(len(names)))


def _settled(item: Any, where: str) -> list[str]:
    try:
        if not isinstance(item, str):
            raise UserError("it is no text")
        return normalize(current_overrides([item], silent))
    except UserError as error:
        raise UserError(f"{where}: its saved override {str(item)[:SHOWN]!r} cannot be read: {error}") from error


def _is_allowed(item: str, where: str, anew: set[str], gone: set[str]) -> bool:
    try:
        override = OverridesParser.create().parse_override(item)
        if override.is_sweep_override():
            raise ValueError("it has several values")
    except (HydraException, ValueError, RecursionError) as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{where}: its saved override {item[:SHOWN]!r} cannot be read: {cause}") from error
    key = override.key_or_group
    if re.match(r"hydra\b", key) or FETCHED.fullmatch(key):
        return False
    if _refused(override) and (key in anew or (stores.LOGGER in anew and key.startswith(f"{stores.LOGGER}."))):
        return False
    if reason := _refused(override, gone):
        raise UserError(f"{where}: its saved override {item[:SHOWN]!r} is not used; {reason}")
    return True


def _refused(override: Override, gone: Collection[str] = ()) -> str | None:
    """Why an override of a run is not used."""
    key, package, value = override.key_or_group, override.package, override.value()
    known = {field.name for field in fields(Config)} | set(groups())
    if (package or key).partition(".")[0] not in known or (key not in groups() and ("/" in key or package)):
        return "this is no key of the configuration"
    if override.is_delete():
        return None
    if key not in groups():
        return refused(value, key, gone)
    choices = value if isinstance(value, list) else [value]
    strange = [one for one in choices if one is not None and not CHOICE.fullmatch(str(one))]
    return f"{key} has no choice {str(strange[0])[:SHOWN]!r}" if strange else None


def refused(value: Any, key: str, gone: Collection[str] = ()) -> str | None:
    """Why the saved value of a key is not used: it would be evaluated, or call, fetch or reach something; or None.
    gone: keys that are removed or replaced behind it."""
    if problem := called(value, key, gone):
        return problem
    for name, leaf in each_leaf(value, key, _is_open):
        if _is_gone(name, gone):
            continue
        if reason := stores.refused(leaf, name):
            return reason
        if FETCHED.fullmatch(name):
            return f"{name}= is for the command line only"
        if PERSONAL.fullmatch(name) and leaf is not None:
            return f"which machines and programs are used is said on the command line; if you trust it, add {name}="
        if isinstance(leaf, str) and is_evaluated(leaf):
            return f"interpolations of a saved file are not evaluated; add {name}= with the value that is meant"
    return None


def called(value: Any, key: str, gone: Collection[str] = ()) -> str | None:
    """Why the saved value of a key is not used that would make Hydra call what is not known; or None. gone: keys that
    are removed or replaced behind it."""
    for name, leaf in each_leaf(value, key, _is_open):
        if _is_gone(name, gone):
            continue
        last = name.rpartition(".")[2]
        if last == TARGET and leaf is not None and not is_known(leaf, name.partition(".")[0]):
            return refusal(name, leaf)
        if last != TARGET and SPECIAL.fullmatch(last):
            return f"{name}: an instruction to Hydra, which a saved configuration has none of"
    return None


def is_evaluated(text: str) -> bool:
    """Whether OmegaConf would make more of a text than a reference to another key."""
    return text == MISSING or INTERPOLATION.search(REFERENCE.sub("", text)) is not None


def without_personal(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A saved configuration without the keys that are for the command line only."""
    kept = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        if not PERSONAL.fullmatch(key) and not FETCHED.fullmatch(key):
            kept[name] = without_personal(value, f"{key}.") if isinstance(value, Mapping) else value
    return kept


def _is_open(key: str) -> bool:
    """Whether what a list at this key holds is looked at; where it is not, the list as a whole is refused."""
    return not PERSONAL.fullmatch(key)
