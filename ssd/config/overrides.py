"""Command-line overrides: what Hydra needs changed before it reads them, and its complaints in one line."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssd.config.credentials import IN_LIST, IN_TEXT, SIGNS, is_cut_short, take
from ssd.config.paths import CONF
from ssd.config.renamed import (
    TARGET,
    Note,
    announce,
    both,
    current_config,
    current_group,
    current_key,
    current_targets,
    current_text,
    current_value,
)
from ssd.config.text import as_text, in_quotes, is_text, quoted
from ssd.utils.errors import UserError
from ssd.utils.flatten import leaves

COMMAND = "SSD_COMMAND"  # environment variable: the overrides as JSON, for the processes that run a sweep's jobs
OVERRIDE = re.compile(r"(?P<sign>\+{0,2})(?P<key>[A-Za-z_][\w.@/-]*)=(?P<value>.*)", re.DOTALL)
REMOVAL = re.compile(r"~\w+(\.\w+)+")
ANY = re.compile(r"(?P<sign>~|\+{0,2})(?P<key>[A-Za-z_][\w./-]*)(?P<package>@[\w.:-]*)?(?P<value>=.*)?", re.DOTALL)
NO_GROUPS = ("hydra", "weights")  # folders of conf/: Hydra's own groups, and the registry of weights
NUMBER = re.compile(r"\d+")
CONFIG_DIR = {"-cd", "--config-dir"}  # flags for a folder of one's own beside conf/
SEARCH_PATH = "hydra.searchpath"
QUOTED = r"""'(?P<single>(?:[^'\\]|\\.)*)'|"(?P<double>(?:[^"\\]|\\.)*)\""""  # a text in a list or a mapping
PLAIN = re.compile(r"/[A-Za-z0-9_./-]*")  # a path that needs no quotes
WITH_VALUE = {"-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name", *CONFIG_DIR}
PARTS = re.compile(r"\[[^\]]*\]|[^,\s]+")  # of a sweep over data shapes
SHAPE = re.compile(r"(?P<side>\d+)|\[\s*(?P<height>\d+)\s*,\s*(?P<width>\d+)\s*\]")


def groups() -> dict[str, list[str]]:
    """Config groups of conf/ and their choices."""
    folders = sorted(folder for folder in CONF.iterdir() if folder.is_dir() and folder.name not in NO_GROUPS)
    return {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}


def hydra_choices(group: str) -> list[str]:
    """Choices of hydra/launcher and hydra/sweeper: ours, and Hydra's own for one job after the other, all of them."""
    return sorted(["basic", *(file.stem for file in (CONF / group).glob("*.yaml"))])


def normalize(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra has to read them: choices of groups and values of keys of text in quotes where they look like
    something else (data_shape=512, dataset.root=2024), what is not in Hydra's grammar in quotes (model=a=b.params), and
    free shapes spelled out.

    data_shape=400 becomes data_shape=any data_shape.height=400 data_shape.width=400; data_shape=[320,480] is
    height, width. Errors: UserError for a data shape that is none, and for a sweep over shapes that are no presets.
    """
    presets = groups()
    out: list[str] = []
    for item in overrides:
        match = OVERRIDE.fullmatch(item)
        group = match["key"].partition("@")[0] if match else ""
        if not match or item.startswith("-"):
            out.append(item)
        elif match["key"] == "data_shape":
            out += _data_shape(match["value"].strip(), presets["data_shape"])
        elif group in presets or is_text(match["key"], in_list=True):
            out.append(_quoted_if_needed(item, match, partial(as_text, match["key"])))
        else:
            out.append(_quoted_if_needed(item, match, str))
    return out


def current_overrides(arguments: Sequence[str], note: Note = announce) -> list[str]:
    """A command line with the names of today. Errors: UserError where one key has two names, or has a value that its
    old name never had."""
    found: list[str] = []
    names: dict[str, str] = {}  # key of today -> as it is written
    takes = False  # a value
    for argument in arguments:
        if takes or argument.startswith("-") or not (match := ANY.fullmatch(argument)):
            found.append(argument)
        else:
            current = _current_override(argument, match, note)
            found += current
            written = f"{match['key']}{match['package'] or ''}"
            for key in map(key_of, current) if written != key_of(current[0]) else [written]:
                if names.setdefault(key, written) != written:
                    raise both(names[key], written)
        takes = not takes and argument in WITH_VALUE
    return found


def _current_override(argument: str, match: re.Match[str], note: Note) -> list[str]:
    sign, old, package, value = match["sign"], match["key"], match["package"] or "", match["value"] or ""
    if not value and sign != "~":
        return [argument]
    new = current_key(current_group(old))
    text = current_value(old, value[1:]) if value and new != old else value[1:]
    text = current_text(current_targets(text, note) if TARGET in argument else text, note)
    if package:
        package = "@" + ":".join(map(current_key, package[1:].split(":")))
    if new != old:
        note(old, new)
    if text.startswith("{"):
        return _current_dict(sign, f"{new}{package}", text, note)
    return [f"{sign}{new}{package}{value[:1]}{text}"]


def _current_dict(sign: str, key: str, text: str, note: Note) -> list[str]:
    """The overrides for key={…}: itself where no key in it has another name today."""
    argument = f"{sign}{key}={text}"
    try:
        parsed = OverridesParser.create().parse_override(argument)
        value = None if parsed.is_sweep_override() else parsed.value()
    except (HydraException, RecursionError):  # reported when it is composed
        return [argument]
    if not isinstance(value, dict):
        return [argument]
    before: Any = OmegaConf.to_container(OmegaConf.create(value))
    root: dict[str, Any] = before
    for name in reversed(key.split(".")):
        root = {name: root}
    after = current_config(root, note=note)
    if after == root:
        return [argument]
    inner = after
    for name in key.split("."):
        inner = inner.pop(name) if name == key.rpartition(".")[2] else inner[name]
    moved = [f"{sign}{name}={in_grammar(item)}" for name, item in leaves(after).items() if item != {}]
    return [f"{sign}{key}={in_grammar(inner)}", *moved]


def in_grammar(value: Any) -> str:
    """A plain value as Hydra's grammar reads it."""
    if isinstance(value, str):
        return in_quotes(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{in_grammar(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(in_grammar, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def composable(arguments: Sequence[str]) -> list[str]:
    """Of a command line what compose() takes: without flags and Hydra's own keys, but with the user's configuration
    folders, of --config-dir and of hydra.searchpath."""
    folders, overrides = _apart(arguments)
    return [search_path(folders), *overrides] if folders else overrides


def config_folders(arguments: Sequence[str]) -> list[str]:
    """The user's configuration folders, of --config-dir and of hydra.searchpath."""
    return [folder.removeprefix("file://") for folder in _apart(arguments)[0]]


def _apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The folders, and the overrides that are neither flags nor Hydra's own."""
    folders: list[str] = []
    overrides: list[str] = []
    flag = ""  # whose value comes next
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if flag or argument.startswith("-"):
            if flag in CONFIG_DIR or (name in CONFIG_DIR and equals):
                folders.insert(0, str(Path(argument if flag else value).absolute()))
            flag = "" if flag or equals or argument not in WITH_VALUE else argument
        elif name == SEARCH_PATH:
            folders += _listed(argument)
        elif not argument.lstrip("+~").startswith("hydra"):
            overrides.append(argument)
    return folders, overrides


def flags_first(arguments: Sequence[str]) -> list[str]:
    """The same command line with flags and their values in front: overrides on both sides of one are an error to
    Hydra's reader of arguments."""
    flags: list[str] = []
    overrides: list[str] = []
    takes = False  # a value
    for argument in arguments:
        (flags if takes or argument.startswith("-") else overrides).append(argument)
        takes = not takes and argument in WITH_VALUE
    return [*flags, *overrides]


def search_path(folders: Sequence[str]) -> str:
    listed = (folder if PLAIN.fullmatch(folder) else quoted(folder) for folder in folders)
    return f"{SEARCH_PATH}=[{','.join(listed)}]"


def _listed(item: str) -> list[str]:
    """What a list on the command line holds."""
    (settled,) = normalize([item])
    value: Any = OmegaConf.create({"list": OverridesParser.create().parse_override(settled).value()})["list"]
    return [str(item) for item in (value if isinstance(value, ListConfig) else [value]) if item]


def override(key: str, text: str) -> str:
    """key=text as a person writes it, with quotes where the text would be read as something else."""
    item = f"{key}={text}"
    (settled,) = normalize([item])
    parsed = OverridesParser.create().parse_override(settled)
    literal = not parsed.is_sweep_override() and parsed.value() == text and "${" not in text
    return item if literal else f"{key}={quoted(text)}"


def still_effective(earlier: Sequence[str], overrides: Sequence[str], fresh: Collection[str]) -> list[str]:
    """Of a saved command line what new overrides leave: not what they say otherwise, nor keys of one of the groups
    `fresh` that they choose anew, which its choice may not have. What they remove stays, as it must be there for that.
    """
    new = {key_of(item) for item in overrides}
    removed = {key for item in overrides if (key := removed_key(item))}
    chosen = tuple(f"{key}." for key in new.intersection(fresh))
    return [
        item
        for item in earlier
        if (key_of(item) not in new or (key_of(item) in removed and not item.startswith("~")))
        and not key_of(item).startswith(chosen)
    ]


def removed_key(item: str) -> str | None:
    """The key below a group that an override removes, with all below it: logger.mine of ~logger.mine; else None."""
    return item[1:] if REMOVAL.fullmatch(item) else None


def key_of(item: str) -> str:
    return item.lstrip("+~").partition("=")[0]


def value_of(overrides: Sequence[str], key: str) -> str | None:
    """The text that these overrides give a key, the last one of several; None for null, for a sweep, and where none
    does."""
    item = next((item for item in reversed(overrides) if item.startswith(f"{key}=")), None)
    if item is None:
        return None
    (settled,) = normalize([item])
    parsed = OverridesParser.create().parse_override(settled)
    value = None if parsed.is_sweep_override() else parsed.value()
    return None if value is None else str(OmegaConf.create({key: value})[key])


def _quoted_if_needed(item: str, match: re.Match[str], settle: Callable[[str], str]) -> str:
    """A value that is not in Hydra's grammar (a path with "=", a regex with "^") is meant literally: quoted, it is."""
    try:
        settled = settle(item)
        OverridesParser.create().parse_override(settled)
    except HydraException:
        return settle(f"{match['sign']}{match['key']}={quoted(match['value'])}")
    return settled


def _data_shape(value: str, presets: Sequence[str]) -> list[str]:
    """The overrides that data_shape=value stands for. Errors: UserError, see normalize."""
    parts = PARTS.findall(value)
    if len(parts) > 1 and all(SHAPE.fullmatch(part) for part in parts):
        if free := [part for part in parts if part not in presets]:
            raise UserError(
                f"data_shape={value}: {free[0]} is no preset ({', '.join(presets)}); sweep over presets, "
                "or over data_shape.height and data_shape.width with data_shape=any"
            )
        return ["data_shape=" + ",".join(quoted(part) for part in parts)]
    if value in presets and NUMBER.fullmatch(value):
        return [f"data_shape={quoted(value)}"]
    if shape := SHAPE.fullmatch(value):
        height, width = shape["height"] or shape["side"], shape["width"] or shape["side"]
        return ["data_shape=any", f"data_shape.height={int(height)}", f"data_shape.width={int(width)}"]
    if not value or re.match(r"[\[\d.+-]", value):
        raise UserError(
            f"data_shape={value}: expected whole pixels: one side of a square (data_shape=300) or "
            "data_shape=[height,width]"
        )
    return [f"data_shape={value}"]


def sweep_points(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Plain override lists in which every value of every sweep `a=1,2` occurs once (not their product).

    Sweeps that are no plain lists, such as range() or interval(), are left to the sweeper: their overrides are dropped.
    """
    fixed: list[str] = []
    sweeps: list[list[str]] = []
    parser = OverridesParser.create()
    for item in overrides:
        override = parser.parse_override(item)
        if not override.is_sweep_override():
            fixed.append(item)
        elif override.is_choice_sweep():
            key = override.get_key_element()
            sweeps.append([f"{key}={value}" for value in override.sweep_string_iterator()])
    first = [values[0] for values in sweeps]
    yield fixed + first
    for index, values in enumerate(sweeps):
        for value in values[1:]:
            yield fixed + first[:index] + [value] + first[index + 1 :]


def swept_over(overrides: Sequence[str]) -> dict[str, str]:
    """The keys that stand for several values, and what was said of each: {"batch_size": "8,16"}."""
    parser = OverridesParser.create()
    parsed = [parser.parse_override(item) for item in overrides if "=" in item and not item.startswith("-")]
    return {str(one.key_or_group): str(one.input_line).partition("=")[2] for one in parsed if one.is_sweep_override()}


def take_overrides(overrides: Sequence[str]) -> list[str]:
    """A command line with the credentials taken out of it."""
    return [_take_override(one) if any(sign in one for sign in SIGNS) else one for one in overrides]


def _take_override(item: str) -> str:
    key, equals, value = item.partition("=")
    if not equals or item.startswith("-"):
        return item
    plain = _plain(item)
    if plain is None or plain.startswith(("[", "{")):  # a sweep, a list, or what is no override
        pattern = IN_LIST if value.startswith(("[", "{")) else IN_TEXT
        return f"{key}={re.sub(f'{QUOTED}|{pattern.pattern}', partial(_taken, key), value)}"
    if key.endswith("tracking_uri") and "@" in plain and "://" not in plain:
        raise UserError(f"{key}: expected the address of a store, sqlite:///path/mlflow.db or http://server:5000")
    address = take(plain)
    return item if address == plain else override(key, address)


def _taken(key: str, found: re.Match[str]) -> str:
    """An address of a list or a sweep, or a text in quotes, without credentials."""
    text = found["single"] if found["single"] is not None else found["double"]
    if text is not None:
        plain = re.sub(r"\\([\\'\"])", r"\1", text)
        address = take(plain)
        return found[0] if address == plain else in_quotes(address)
    if is_cut_short(found[0]):
        raise UserError(
            f"{key}: the password of an address in it has a character that ends the address; put it in quotes"
        )
    return take(found[0])


def _plain(override: str) -> str | None:
    """The one text that an override gives its key, without quotes and escapes."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        (settled,) = normalize([override])
        parsed = OverridesParser.create().parse_override(settled)
        value = None if parsed.is_sweep_override() else OmegaConf.create({"value": parsed.value()})
    except (HydraException, OmegaConfBaseException, UserError, ValueError):
        return None
    plain = OmegaConf.to_container(value)["value"] if value is not None else None  # type: ignore[call-overload,index]
    return plain if isinstance(plain, str) else None
