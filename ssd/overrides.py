"""Command-line words: what Hydra needs changed before it reads them, and its complaints in one line."""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from ssd.errors import UserError

COMMAND = "SSD_COMMAND"  # environment variable: the words as JSON, for the processes that run a sweep's jobs
WORD = re.compile(r"(?P<key>[A-Za-z_]\w*)=(?P<value>.*)", re.DOTALL)
NUMBER = re.compile(r"\d+")
CONFIG_DIR = {"-cd", "--config-dir"}  # flags for a folder of one's own beside conf/
WITH_VALUE = {"-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name", *CONFIG_DIR}
PAIR = re.compile(r"\[\s*(\d+)\s*,\s*(\d+)\s*\]")


def groups() -> dict[str, list[str]]:
    """Config groups of conf/ and their choices."""
    from ssd.config import CONF

    folders = sorted(folder for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra")
    return {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}


def hydra_choices(group: str) -> list[str]:
    """Choices of hydra/launcher and hydra/sweeper: ours, and Hydra's own for one job after the other, all of them."""
    from ssd.config import CONF

    return sorted(["basic", *(file.stem for file in (CONF / group).glob("*.yaml"))])


def normalise(words: Sequence[str]) -> list[str]:
    """Quotes numeric choices of groups (Hydra reads data_shape=512 as a number and dies) and what is no grammar of
    Hydra's (model=a=b.params), and spells out free shapes.

    data_shape=400 becomes data_shape=any data_shape.height=400 data_shape.width=400; data_shape=[320,480] is
    height, width. Errors: UserError for a sweep over shapes that are no presets.
    """
    choices = groups()
    out: list[str] = []
    for word in words:
        match = WORD.fullmatch(word)
        if not match or match["key"] not in choices:
            out.append(_quoted_if_needed(word))
            continue
        key, value = match["key"], match["value"].strip()
        shape = _free_shape(value, choices["data_shape"]) if key == "data_shape" else None
        if shape:
            out += ["data_shape=any", f"data_shape.height={shape[0]}", f"data_shape.width={shape[1]}"]
        else:
            parts = [part.strip() for part in value.split(",")] if not value.startswith("[") else [value]
            if key == "data_shape" and len(parts) > 1 and (free := [p for p in parts if _free_shape(p, choices[key])]):
                raise UserError(
                    f"data_shape={value}: {free[0]} is no preset ({', '.join(choices[key])}); sweep over presets, "
                    "or over data_shape.height and data_shape.width with data_shape=any"
                )
            out.append(f"{key}=" + ",".join(f"'{part}'" if NUMBER.fullmatch(part) else part for part in parts))
    return out


def composable(arguments: Sequence[str]) -> list[str]:
    """Of a command line what compose() takes: without flags and Hydra's own keys, but with the user's --config-dir."""
    words: list[str] = []
    flag = ""  # whose value comes next
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if flag or argument.startswith("-"):
            if flag in CONFIG_DIR or (name in CONFIG_DIR and equals):
                words.append(f"hydra.searchpath=['{Path(argument if flag else value).absolute()}']")
            flag = "" if flag or equals or argument not in WITH_VALUE else argument
        elif not argument.lstrip("+~").startswith("hydra") or argument.startswith("hydra.searchpath="):
            words.append(argument)
    return words


def _quoted_if_needed(word: str) -> str:
    """A value that is no Hydra grammar (a path with "=", a regex with "^") is meant literally: quoted, it is."""
    match = re.fullmatch(r"(\+{0,2}[A-Za-z_][\w.@/-]*)=(.*)", word, re.DOTALL)
    if not match:
        return word
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        text = match[2].replace("\\", "\\\\").replace("'", "\\'")
        return f"{match[1]}='{text}'"
    return word


def _free_shape(value: str, presets: Sequence[str]) -> tuple[str, str] | None:
    if NUMBER.fullmatch(value) and value not in presets:
        return value, value
    pair = PAIR.fullmatch(value)
    return (pair[1], pair[2]) if pair else None


def sweep_points(words: Sequence[str]) -> Iterator[list[str]]:
    """Plain word lists in which every value of every sweep `a=1,2` occurs once (not their product).

    Sweeps that are no plain lists, such as range() or interval(), are left to the sweeper: their words are dropped.
    """
    fixed: list[str] = []
    sweeps: list[list[str]] = []
    parser = OverridesParser.create()
    for word in words:
        override = parser.parse_override(word)
        if not override.is_sweep_override():
            fixed.append(word)
        elif override.is_choice_sweep():
            key = override.get_key_element()
            sweeps.append([f"{key}={value}" for value in override.sweep_string_iterator()])
    first = [values[0] for values in sweeps]
    yield fixed + first
    for index, values in enumerate(sweeps):
        for value in values[1:]:
            yield fixed + first[:index] + [value] + first[index + 1 :]


def swept_over(words: Sequence[str]) -> dict[str, str]:
    """The keys that stand for several values, and what was said of each: {"batch_size": "8,16"}."""
    parser = OverridesParser.create()
    overrides = [parser.parse_override(word) for word in words if "=" in word and not word.startswith("-")]
    return {
        str(one.key_or_group): str(one.input_line).partition("=")[2] for one in overrides if one.is_sweep_override()
    }


def explain(error: Exception, words: Sequence[str]) -> str:
    """Hydra's and OmegaConf's exceptions as one line: what, where, what would be right."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    cause = error.__cause__ or error.__context__
    if cause is not None and str(cause) not in text:
        text = f"{text}\n{cause}"
    if match := re.search(r"UserError raised while resolving interpolation: (.*)", text):
        return match[1]
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, choice = match[1], match[2]
        options = groups().get(group) or hydra_choices(group)
        return f"{group}={choice}: no such choice{_near(choice, options)}; choose from {', '.join(options)}"
    if match := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{match[1]}: several values make a sweep, which needs -m; a list is written [a,b]"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if match := re.search(r"Could not (?:override|delete from config\.) ?'?([\w.@/]+)", text):
        return f"no key or group {match[1]!r}{_near(match[1], known_keys())}; all keys: ssd --cfg job"
    if match := re.match(r"Error merging override (.*)", text):
        return f"{match[1]}: {lines[1] if len(lines) > 1 else 'wrong type'}"
    if match := re.search(r"full_key: (\S+)", text):
        return f"{match[1]}: {lines[0]}"
    if lines and type(error).__name__ == "OverrideParseException":
        return f"cannot read {' '.join(words)!r} ({lines[0]}); words have the form key=value"
    return " ".join(lines)


def lacks_plugin(error: BaseException | None) -> bool:
    """Whether an exception comes from a launcher or sweeper, or from what it is built on, not being installed."""
    while error is not None:
        name = error.name if isinstance(error, ModuleNotFoundError) else None
        if (name or "").split(".")[0] in ("hydra_plugins", "optuna", "submitit", "joblib"):
            return True
        if "Unknown plugin class : 'hydra_plugins." in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def known_keys() -> list[str]:
    """Every dotted key of the default configuration, and the names of the groups."""
    from ssd.config import compose

    def walk(node: DictConfig, prefix: str) -> Iterator[str]:
        for key in node:
            name = f"{prefix}{key!s}"
            yield name
            child = None if OmegaConf.is_missing(node, key) else node._get_node(key)
            if isinstance(child, DictConfig) and child._content is not None and not child._is_interpolation():
                yield from walk(child, f"{name}.")

    return sorted({*walk(compose([]), ""), *groups()})


def _near(word: str, candidates: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
