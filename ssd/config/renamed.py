"""Names of earlier versions and what they are called today: keys, groups, values and classes, in one table.

What a user writes (command line, `ssd.config.compose`, YAML files of a --config-dir) may have the old names; each is
reported once. Saved runs have them, too; there they are translated silently. Nothing else in the program knows them.
Imports nothing heavy.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from ssd.utils.errors import UserError
from ssd.utils.flatten import map_texts

log = logging.getLogger(__name__)

VERSION = "0.2"  # the first one with the names of today
NOTED = "SSD_RENAMED"  # environment variable: the old names that were reported, for this process and those it starts
TARGET = "_target_"
Note = Callable[[str, str], None]  # (old name, name of today)

# Dotted keys; one that has keys below it stands for all of them. Those of `dataset` hold for dataset.parts.NAME, too.
KEYS = {
    "detection.score": "detection.score_threshold",
    "detection.nms": "detection.nms_threshold",
    "detection.topk": "detection.pre_nms_topk",
    "detection.keep": "detection.max_detections",
    "dataset.others": "dataset.unknown_classes",
    "dataset.images": "dataset.max_images",
    "metric.gallery": "metric.worst_images",
    "init.statistics": "init.freeze_bn",
    "init.rates": "init.lr_mult",
    "init.names": "init.weight_map",
    "guard.patience": "early_stopping.patience",
    "guard.min_gain": "early_stopping.min_delta",
    "guard.explode": "guard.loss_spike",
}
# Of these keys the values that are written differently today.
VALUES = {"init.statistics": {"learn": False, "frozen": True}}
# Config groups, and folders of a user's own choices of them.
GROUPS = {"names": "weight_map"}
# Classes and functions that a configuration may name.
TARGETS = {
    "ssd.symbol.backbones.legacy_vgg.build": "ssd.symbol.backbones.vgg.build_legacy",
    "ssd.data.coco.COCO": "ssd.data.datasets.coco.COCO",
    "ssd.data.csv_table.CSV": "ssd.data.datasets.csv_table.CSV",
    "ssd.data.parts.Concat": "ssd.data.datasets.concat.Concat",
    "ssd.data.rec.Rec": "ssd.data.datasets.rec.Rec",
    "ssd.data.shapes.Shapes": "ssd.data.datasets.shapes.Shapes",
    "ssd.data.voc.VOC": "ssd.data.datasets.voc.VOC",
    "ssd.data.yolo.YOLO": "ssd.data.datasets.yolo.YOLO",
    "ssd.tracking.mlflow.MLflow": "ssd.tracking.mlflow.writer.MLflow",
}
WRITTEN = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, TARGETS)) + r")(?![\w.])")
PART = re.compile(r"dataset\.parts\.\w+(?=\.|$)")  # of a concatenation, a dataset with its own keys
REFERENCE = re.compile(r"\$\{[^{}]*\}")
DOTTED = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\.\w+)+")
SEARCH_SPACE = ("hydra", "sweeper", "params")  # whose keys are dotted, and whose values are sweeps
DEFAULTS = "defaults"  # of a YAML file, its choices of groups
CHOICE = re.compile(r"((?:optional |override )*/?)([\w/]+)(@.*)?")


def silent(old: str, new: str) -> None:
    """The note of what a program wrote, which nobody can correct."""


def announce(old: str, new: str) -> None:
    """The note of what a user wrote: one line per old name, however often and in how many processes it is read."""
    noted = json.loads(os.environ.get(NOTED, "[]"))
    if old not in noted:
        os.environ[NOTED] = json.dumps([*noted, old])
        log.warning("deprecated: %s is called %s since version %s", old, new, VERSION)


def current_key(key: str) -> str:
    """A dotted key by its name of today."""
    part = PART.match(key)
    front, inner = (part[0], f"dataset{key[part.end() :]}") if part else ("", key)
    for old, new in KEYS.items():
        if inner == old or inner.startswith(f"{old}."):
            found = f"{new}{inner[len(old) :]}"
            return f"{front}{found.removeprefix('dataset')}" if front else found
    return key


def current_group(name: str) -> str:
    """A config group, or a choice of one such as group/name, by its name of today."""
    group, slash, choice = name.partition("/")
    return f"{GROUPS.get(group, group)}{slash}{choice}"


def earlier_groups(group: str) -> list[str]:
    """The old names of a config group."""
    return [old for old, new in GROUPS.items() if new == group]


def current_value(old: str, text: str) -> str:
    """The value of an override, several in a sweep included, of the key whose old name is given.

    Errors: UserError for a value that the old key did not have.
    """
    if (choices := VALUES.get(old)) is None:
        return text
    pattern = rf"(?<![\w.])(['\"]?)({'|'.join(choices)})\1(?![\w.])"
    found, count = re.subn(pattern, lambda match: str(choices[match[2]]).lower(), text)
    if not count and "${" not in text:
        raise _no_value(old, text)
    return found


def current_text(text: str, note: Note = silent) -> str:
    """A text with references to keys (${detection.nms_threshold}) by their names of today."""
    if "${" not in text:
        return text

    def renamed(found: re.Match[str]) -> str:
        if (key := current_key(found[0])) != found[0]:
            note(found[0], key)
        return key

    return REFERENCE.sub(lambda reference: DOTTED.sub(renamed, reference[0]), text)


def current_targets(text: Any, note: Note = silent) -> Any:
    """A text, such as an override, with the classes of today; anything else as it is."""

    def renamed(found: re.Match[str]) -> str:
        note(found[1], TARGETS[found[1]])
        return TARGETS[found[1]]

    return WRITTEN.sub(renamed, text) if isinstance(text, str) else text


def current_config(node: Any, prefix: str = "", note: Note = silent) -> Any:
    """A configuration, plain data, with the names of today; anything but a mapping is returned as it is.

    prefix: dotted key that the configuration lies at, by any of its names. Errors: UserError where one key has two
    names, has a value that it never had, or is elsewhere today than below `prefix`.
    """
    if not isinstance(node, dict):
        return node
    content = map_texts(_with_targets(node, note), lambda text: current_text(text, note))
    if isinstance(content.get(DEFAULTS), list):
        content[DEFAULTS] = [_current_choice(item, note) for item in content[DEFAULTS]]
    way = prefix.split(".") if prefix else []
    root: dict[str, Any] = content
    for name in reversed(way):
        root = {name: root}
    for old, new in _pairs(root):
        _move(root, old, new, note)
    if isinstance(space := _at(root, SEARCH_SPACE), dict):
        _rename_space(space, note)
    return _below(root, prefix) if way else root


def both(first: str, second: str) -> UserError:
    """Two names of one key, given at once."""
    old, new = (first, second) if current_key(first) != first or first in GROUPS else (second, first)
    return UserError(f"{old} and {new}: two names of one key; leave out {old}, which is the old one")


def _no_value(old: str, value: Any) -> UserError:
    choices = VALUES[old]
    today = " or ".join(f"{current_key(old)}={str(value).lower()}" for value in choices.values())
    return UserError(f"{old}={value}: expected {' or '.join(choices)}, or, as it is written today, {today}")


def _with_targets(node: Any, note: Note) -> Any:
    if isinstance(node, dict):
        return {
            key: current_targets(value, note) if key == TARGET else _with_targets(value, note)
            for key, value in node.items()
        }
    return [_with_targets(item, note) for item in node] if isinstance(node, list) else node


def _pairs(root: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """(path, path of today) of everything that may have to move, in the parts of a concatenation, too."""
    parts = _at(root, ("dataset", "parts"))
    names = list(parts) if isinstance(parts, dict) else range(len(parts)) if isinstance(parts, list) else []
    for old, new in KEYS.items():
        yield tuple(old.split(".")), tuple(new.split("."))
        if old.startswith("dataset."):
            for name in names:
                front: tuple[Any, ...] = ("dataset", "parts", name)
                yield (*front, *old.split(".")[1:]), (*front, *new.split(".")[1:])


def _at(root: Any, way: tuple[Any, ...]) -> Any:
    for name in way:
        if isinstance(root, dict):
            root = root.get(name)
        else:
            root = root[name] if isinstance(root, list) and isinstance(name, int) else None
    return root


def _move(root: dict[str, Any], old: tuple[Any, ...], new: tuple[Any, ...], note: Note) -> None:
    holder = _at(root, old[:-1])
    if not isinstance(holder, dict) or old[-1] not in holder:
        return
    was, today = (".".join(map(str, way)) for way in (old, new))
    target = _at(root, new[:-1])
    if not isinstance(target, dict):
        target = root
        for name in new[:-1]:
            target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise UserError(f"{was}: is called {today} today, whose {name} is no group here")
    if new[-1] in target:
        raise both(was, today)
    value = holder.pop(old[-1])
    key = ".".join(("dataset", *map(str, old[3:])) if old[:2] == ("dataset", "parts") else map(str, old))
    if (choices := VALUES.get(key)) is not None and not (isinstance(value, str) and "${" in value):
        if not isinstance(value, str) or value not in choices:
            raise _no_value(key, value)
        value = choices[value]
    target[new[-1]] = value
    note(was, today)


def _rename_space(space: dict[str, Any], note: Note) -> None:
    """The keys of hydra.sweeper.params."""
    for old in list(space):
        key = str(old)
        new = GROUPS.get(key, current_key(key))
        if new == key:
            continue
        if new in space:
            raise both(key, new)
        value = space.pop(old)
        space[new] = current_value(key, value) if isinstance(value, str) else value
        note(key, new)


def _current_choice(item: Any, note: Note) -> Any:
    """An entry of a list of defaults."""
    if isinstance(item, str):
        return _current_name(item, note)
    return {_current_name(key, note): value for key, value in item.items()} if isinstance(item, dict) else item


def _current_name(text: Any, note: Note) -> Any:
    if not isinstance(text, str) or not (match := CHOICE.fullmatch(text)):
        return text
    group = current_group(match[2])
    package = match[3] and "@" + ":".join(map(current_key, match[3][1:].split(":")))
    if group != match[2]:
        note(match[2].partition("/")[0], group.partition("/")[0])
    return f"{match[1]}{group}{package or ''}"


def _below(root: dict[str, Any], prefix: str) -> dict[str, Any]:
    """What lies at `prefix`. Errors: UserError for anything that lies elsewhere."""
    holder, way = root, current_key(prefix).split(".")
    for name in way[:-1]:
        holder = holder[name]
    found: dict[str, Any] = holder.pop(way[-1])
    if moved := next(_filled(root), None):
        raise UserError(
            f"{moved}: was below {prefix} in earlier versions; write it into a file with # @package _global_"
        )
    return found


def _filled(node: dict[str, Any], front: str = "") -> Iterator[str]:
    for name, value in node.items():
        if not isinstance(value, dict):
            yield f"{front}{name}"
        else:
            yield from _filled(value, f"{front}{name}.")
