"""The registry of published weights: a YAML file each in conf/weights/<source>/<name>.yaml.

    init.weights=imagenet              the first of those that the backbone's file names
    init.weights=gluon/resnet50_v2     conf/weights/gluon/resnet50_v2.yaml
    model=mxnet_ssd/resnet50_512       a detector
    init.weights=./gluon/resnet50_v2   a path, as everything is that the registry does not have

A directory that --config-dir names may have a weights/ of its own, whose files go first. Imports nothing heavy.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ssd.config.overrides import config_folders
from ssd.config.paths import CONF
from ssd.config.targets import typed_overrides
from ssd.utils.errors import UserError, did_you_mean
from ssd.utils.plain_yaml import read_yaml

FOLDER = "weights"
IMAGENET = "imagenet"  # init.weights=: those of the backbone
NAME = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9][A-Za-z0-9_.+-]*")
FORMATS = ("gluon", "gluoncv_ssd", "mxnet", "safetensors", "npz")
DIGITS = re.compile(r"[0-9a-f]{8,64}")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_*][A-Za-z0-9_.+*-]*")  # of a file or a pattern of one


@dataclass(frozen=True)
class Weights:
    """An entry of the registry, as its file has it.

    name: source/name. backbones: those of conf/backbone that it fits. url: where it is, each tried in turn; member: the
    file in the archive behind it, a pattern of one, or None where it is no archive. graph: a pattern of the graph
    beside it. sha1, sha256: of the file itself, or their first digits; without both the checksum of the first download
    counts. size: bytes of what is downloaded. file: its name where no url says so; made_by: how it is made.
    architecture: of gluon's model zoo; layout: order of modules in a file of names, see ssd/weights/layouts.py;
    weight_map: a file of conf/weight_map. epsilon: of its batch normalizations, where no graph has it. partial: it ends
    before the backbone does. options: of backbone.network, which it needs. mean, std: of its input, RGB of 0..255.
    overrides and classes: the network of a detector, and whose class names it has.
    """

    name: str
    about: str
    path: Path
    backbones: tuple[str, ...]
    format: str
    url: tuple[str, ...] = ()
    member: str | None = None
    graph: str | None = None
    file: str | None = None
    made_by: str | None = None
    sha1: str | None = None
    sha256: str | None = None
    size: int | None = None
    architecture: str | None = None
    layout: str | None = None
    weight_map: str | None = None
    epsilon: float | None = None
    partial: bool = False
    options: Mapping[str, Any] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    license: str | None = None
    accuracy: str | None = None
    detector: bool = False
    overrides: tuple[str, ...] = ()
    classes: str | None = None

    @property
    def kind(self) -> str:
        return "detector" if self.detector else "backbone"

    @property
    def download(self) -> str:
        """Name of what is behind the url: the file itself or the archive."""
        return self.file or PurePosixPath(urlsplit(self.url[0]).path).name


@dataclass(frozen=True)
class Fetching:
    """How weights are fetched. mirror: a base URL in place of the published one; offline: not at all."""

    mirror: str | None = None
    offline: bool = False


FIELDS = {field.name for field in fields(Weights)} - {"name", "about", "path"}
LISTS = ("backbones", "url", "mean", "std", "overrides")
TEXTS = ("format", "member", "graph", "file", "made_by", "sha1", "sha256", "architecture", "layout", "weight_map",
         "license", "accuracy", "classes")  # fmt: skip


def folders() -> list[Path]:
    """Directories of entries: those of the user's --config-dir, then conf/'s."""
    return [*(Path(folder) / FOLDER for folder in config_folders(typed_overrides() or [])), CONF / FOLDER]


def registered() -> list[str]:
    """All names, source/name."""
    found = {str(file.relative_to(folder).with_suffix("")) for folder in folders() for file in folder.glob("*/*.yaml")}
    return sorted(found)


def is_registered(name: str) -> bool:
    return _file(name) is not None


def read_entry(name: str) -> Weights:
    """Errors: UserError for a name that is not registered, and for an entry that is damaged."""
    file = _file(name)
    if file is None:
        hint = did_you_mean(name, registered())
        raise UserError(f"weights {name}: not registered{f' ({hint})' if hint else ''}; ssd models lists all names")
    content = read_yaml(file, "an entry of the registry of weights")
    try:
        return _entry(name, file, content)
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: {error}") from error


def entry_of(name: str) -> Weights | None:
    """The entry of a name; None for a path. Errors: UserError for what is neither: a name that its source does not
    have."""
    if is_registered(name):
        return read_entry(name)
    source = name.partition("/")[0]
    if NAME.fullmatch(name) and not Path(name).exists() and any((folder / source).is_dir() for folder in folders()):
        read_entry(name)  # which names the nearest
    return None


def _file(name: str) -> Path | None:
    if not NAME.fullmatch(name):
        return None
    return next((file for folder in folders() if (file := folder / f"{name}.yaml").is_file()), None)


def _entry(name: str, file: Path, content: Any) -> Weights:
    if not isinstance(content, dict):
        raise ValueError("expected keys and values")
    if unknown := content.keys() - FIELDS:
        hint = did_you_mean(min(unknown, key=str), FIELDS)
        raise ValueError(f"{min(unknown, key=str)}: unknown key{f' ({hint})' if hint else ''}")
    values = {key: value for key, value in content.items() if value is not None}
    for key in LISTS:
        if not isinstance(values.get(key, []), list):
            raise ValueError(f"{key}: expected a list")
        if key in values:
            values[key] = tuple(values[key])
    for key in TEXTS:
        if not isinstance(values.get(key, ""), str):
            raise ValueError(f"{key}: expected text, in quotes if need be")
    entry = Weights(name, _about(file), file, **{"backbones": (), "format": "", **values})
    _check(entry)
    return entry


def _check(entry: Weights) -> None:
    """Errors: ValueError naming the key."""
    if entry.format not in FORMATS:
        raise ValueError(f"format={entry.format}: expected one of {', '.join(FORMATS)}")
    if not entry.backbones or not all(isinstance(one, str) for one in (*entry.backbones, *entry.url, *entry.overrides)):
        raise ValueError("backbones, url, overrides: expected names, of backbones at least one")
    if not entry.url and entry.file is None:
        raise ValueError("url: expected an address, or file: the name of one that a user puts into the cache")
    for key in ("sha1", "sha256"):
        if (digits := getattr(entry, key)) is not None and not DIGITS.fullmatch(digits):
            raise ValueError(f"{key}: expected 8 digits or more, 0-9 and a-f")
    if entry.size is not None and (type(entry.size) is not int or entry.size < 1):
        raise ValueError(f"size={entry.size}: expected bytes, or null")
    for key in ("mean", "std"):
        numbers = getattr(entry, key)
        if numbers is not None and (len(numbers) != 3 or not all(isinstance(one, (int, float)) for one in numbers)):
            raise ValueError(f"{key}: expected three numbers")
    if entry.std is not None and min(entry.std) <= 0:
        raise ValueError("std: expected numbers above 0")
    for key in ("download", "member", "graph", "file"):
        if (name := getattr(entry, key)) is not None and not PLAIN_NAME.fullmatch(name):
            raise ValueError(f"{key}={name}: expected the name of a file")
    if not isinstance(entry.options or {}, dict):
        raise ValueError("options: expected keys and values")


def _about(file: Path) -> str:
    """The comment at the head of an entry."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def chosen(weights: str | None, of_backbone: Sequence[str]) -> str | None:
    """The registered name behind init.weights; None for a path, and where the backbone has none.

    of_backbone: the names that the backbone's file has, the default first.
    """
    if weights == IMAGENET:
        return of_backbone[0] if of_backbone else None
    return weights if weights is not None and entry_of(weights) is not None else None


def check_classes(weights: str, of_backbone: Sequence[str]) -> None:
    """Errors: UserError where a model class by class is wanted, and init.weights names a backbone."""
    name = chosen(weights, of_backbone)
    if name is not None and not read_entry(name).detector:
        raise UserError(f"init.weights={weights}: a backbone, which has no classes; use init.mode=pretrained")


def check_choice(weights: str, backbone: str, of_backbone: Sequence[str], network: Mapping[str, Any]) -> None:
    """What init.weights names must be of this backbone, with these options of backbone.network.

    Errors: UserError in one line.
    """
    name = chosen(weights, of_backbone)
    if name is None:
        if weights == IMAGENET:
            raise UserError(
                f"init.weights={weights}: backbone={backbone} has no published weights; ssd models lists others, "
                "init.weights=null starts from scratch"
            )
        return
    entry = read_entry(name)
    if backbone not in entry.backbones:
        others = f"; of backbone={backbone} there are {', '.join(of_backbone)}" if of_backbone else ""
        raise UserError(f"init.weights={weights}: weights of backbone={entry.backbones[0]}, not of {backbone}{others}")
    for key, value in (entry.options or {}).items():
        if key in network and network[key] != value:
            raise UserError(
                f"init.weights={weights}: needs backbone.network.{key}={_written(value)}, is "
                f"{_written(network[key])}; with that its outputs would be wrong"
            )


def _written(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def expected(weights: str | None, of_backbone: Sequence[str], key: str, default: Any) -> Any:
    """mean, std, or an option of backbone.network, as what init.weights names needs it; else the default."""
    name = chosen(weights, of_backbone)
    if name is None:
        return default
    entry = read_entry(name)
    found = getattr(entry, key) if key in ("mean", "std") else (entry.options or {}).get(key)
    return default if found is None else list(found) if isinstance(found, tuple) else found
