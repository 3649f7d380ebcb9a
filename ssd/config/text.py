"""Keys whose values are text whatever they look like: names of folders, files, classes, splits.

Hydra's grammar and YAML read 2024, 1e3, 010, yes and 12:30 as numbers and booleans. Text is what ssd/config/schema.py
declares as str, and the keys whose default in conf/ is text; only keys whose default is null are listed here.
`as_text` quotes values on the command line, `FileConfigSource` reads them from YAML files.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from antlr4 import CommonTokenStream, InputStream
from antlr4.tree.Tree import ParseTree
from hydra._internal.core_plugins import file_config_source
from hydra._internal.grammar.functions import Functions
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

from ssd.config.credentials import take_values
from ssd.config.paths import CONF
from ssd.config.renamed import DEFAULTS, announce, current_config, current_key, earlier_groups
from ssd.config.schema import Config
from ssd.utils.errors import UserError

# Text that is null by default, or that differs by the choice of a group; a key holds for everything below it, too.
TEXT = {
    "cluster.hosts", "dataset.classes", "dataset.delimiter", "dataset.group_by", "dataset.holdout.cache",
    "dataset.labels", "dataset.mirror", "dataset.names", "dataset.root", "dataset.splits",
    "hydra.run.dir", "hydra.searchpath", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.sweeper.storage",
    "hydra.sweeper.study_name", "job.backbones", "job.caffemodel", "job.prototxt", "job.runs",
    "job.splits", "logger.mlflow.register",
}  # fmt: skip
# Of these, lists: a single value is a list of one.
LISTS = {"dataset.classes", "job.backbones", "job.formats", "job.save", "job.splits"}
IN_LISTS = {"job.classes"}  # names, and in job=benchmark a number
NUMBERS_TOO = {"dataset.columns", "job.mean"}  # names with a header, positions without; a file, or three levels
GROUPS = ("dataset", "job", "logger")  # that ssd/config/schema.py leaves open
PART = re.compile(r"dataset\.parts\.\w+")  # of a concatenation, a dataset with its own keys
ELEMENTWISE = ("choice", "shuffle", "sort", "tag")  # of Hydra's functions, those whose arguments are values themselves
SCALARS = "tag:yaml.org,2002:"
HEADER = 512  # characters in which "# @package" stands


def is_text(key: str, in_list: bool = False) -> bool:
    """Whether the values of a dotted key are text, or those of a list there."""
    if key in IN_LISTS:
        return in_list
    parts = PART.sub("dataset", key).split(".")
    known, prefixes = text_keys(), [".".join(parts[: end + 1]) for end in range(len(parts))]
    return not NUMBERS_TOO & {*prefixes} and (prefixes[-1] in known or any(prefix in TEXT for prefix in prefixes))


def is_list(key: str) -> bool:
    return PART.sub("dataset", key) in LISTS


@lru_cache(1)
def text_keys() -> frozenset[str]:
    """The keys that are text by the schema or by a file of conf/."""
    found = {*TEXT, *LISTS, *_of_schema(Config, "")}
    for group in GROUPS:
        for file in (CONF / group).glob("*.yaml"):
            text = file.read_text(encoding="utf-8")
            values = yaml.load(text, get_yaml_loader()) or {}
            found.update(_of_values(values, "" if "@package _global_" in text else f"{group}."))
    shared = yaml.load((CONF / "config.yaml").read_text(encoding="utf-8"), get_yaml_loader())["dataset"]
    return frozenset(found | set(_of_values(shared, "dataset.")))


def _of_schema(kind: Any, prefix: str) -> Iterator[str]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        if is_dataclass(hint):
            yield from _of_schema(hint, f"{prefix}{field.name}.")
        elif str in (hint, *get_args(hint)):
            yield f"{prefix}{field.name}"


def _of_values(node: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in node.items():
        if name == DEFAULTS:
            continue
        if isinstance(value, Mapping):
            yield from _of_values(value, f"{prefix}{name}.")
            continue
        items = value if isinstance(value, list) else [value]
        if items and all(isinstance(item, str) and not item.startswith("${") for item in items):
            yield f"{prefix}{name}"


def quoted(text: str) -> str:
    """A value of Hydra's grammar that means this text, and nothing but it."""
    return in_quotes(re.sub(r"(\\*)\$\{", r"\1\1\\${", text))  # no interpolation


def in_quotes(text: str) -> str:
    """A value of Hydra's grammar that is this text; interpolations in it are resolved."""
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"


def as_text(key: str, override: str) -> str:
    """An override of a key of text with quotes around values that Hydra's grammar reads as something else.

    null alone stays null; in a list it is a name like any other. Errors: HydraException for what is no override.
    """
    for start, stop in reversed(_Reader(override, key in IN_LISTS).found):
        override = override[:start] + quoted(override[start:stop]) + override[stop:]
    if not is_list(key):
        return override
    for start, stop in reversed(_Reader(override, False).single):
        override = f"{override[:start]}[{override[start:stop]}]{override[stop:]}"
    return override


class _Reader(HydraOverrideVisitor):
    """found: places of values that are no text, of all or only of those in lists. single: of those that are neither
    null nor part of a list."""

    def __init__(self, override: str, lists_only: bool) -> None:
        super().__init__(Functions())
        self.lists_only = lists_only
        self.found: list[tuple[int, int]] = []
        self.single: list[tuple[int, int]] = []
        lexer = OverrideLexer(InputStream(override))
        parser = OverrideParser(CommonTokenStream(lexer))
        for part in (lexer, parser):
            part.removeErrorListeners()
            part.addErrorListener(HydraErrorListener())
        self.visit(parser.override())

    def visitPrimitive(self, ctx: OverrideParser.PrimitiveContext) -> Any:  # noqa: N802 - of antlr4
        value = super().visitPrimitive(ctx)
        children = [child for child in ctx.getChildren() if not self.is_ws(child)]
        place = (children[0].symbol.start, children[-1].symbol.stop + 1)
        container = _container(ctx)
        in_list = container is OverrideParser.ListContainerContext
        scalar = value is not None and not self.lists_only
        if not isinstance(value, str) and not hasattr(value, "quote") and (in_list or scalar):
            self.found.append(place)
        if value is not None and container is None:
            interpolated = children[0].symbol.type == OverrideLexer.INTERPOLATION and len(children) == 1
            self.single += [] if interpolated else [place]
        return value

    def visitFunction(self, ctx: OverrideParser.FunctionContext) -> Any:  # noqa: N802
        if ctx.getChild(0).getText() in ELEMENTWISE:
            for element in ctx.element():
                self.visitElement(element)


def _container(node: ParseTree) -> type | None:
    """Whether a value stands in a list or in a dict."""
    while node := node.parentCtx:
        if isinstance(node, (OverrideParser.ListContainerContext, OverrideParser.DictContainerContext)):
            return type(node)
    return None


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's, under its name and in its place; values of keys of text are read as they are written, and names of
    earlier versions, which folders of a user's own may have, as those of today."""

    def load_config(self, config_path: str) -> ConfigResult:
        path = self._file(config_path)
        if path is None:
            raise ConfigLoadError(f"Config not found : {Path(self.path, self._normalize_file_name(config_path))}")
        text = path.read_text(encoding="utf-8")
        header = ConfigSource._get_header_dict(text[:HEADER])
        group = config_path.rpartition("/")[0].split("/")[0]
        package = header.get("package") or ("_group_" if group else "_global_")
        prefix = "" if package == "_global_" else f"{package.replace('_group_', group)}."
        try:
            config = load_yaml(text, prefix)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        if header.get("package"):
            header["package"] = current_key(package)
        return ConfigResult(config=config, path=f"{self.scheme()}://{self.path}", provider=self.provider, header=header)

    def is_config(self, config_path: str) -> bool:
        return self._file(config_path) is not None

    def is_group(self, config_path: str) -> bool:
        return any(Path(self.path, name).is_dir() for name in _names_of(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        found = [super(FileConfigSource, self).list(name, results_filter)
                 for name in _names_of(config_path) if Path(self.path, name).is_dir()]  # fmt: skip
        return sorted({name for names in found for name in names})

    def _file(self, config_path: str) -> Path | None:
        places = (Path(self.path, self._normalize_file_name(name)) for name in _names_of(config_path))
        return next((place for place in places if place.is_file()), None)


def _names_of(config_path: str) -> list[str]:
    """A config group or a choice of it by its name of today and by earlier ones."""
    group, slash, choice = config_path.partition("/")
    return [config_path, *(f"{old}{slash}{choice}" for old in earlier_groups(group))]


def load_yaml(text: str, prefix: str = "") -> Any:
    """OmegaConf.load with the values of keys of text as they are written, with names of today, and without credentials
    in addresses, see ssd/config/credentials.py. prefix: in front of the keys. Errors: UserError, see current_config."""
    loader = get_yaml_loader()(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            _settle(node, prefix.rstrip("."), False)
        content = loader.construct_document(node) if node is not None else None
    finally:
        loader.dispose()
    if "://" in text or "oc.env" in text:
        content = take_values(content)
    content = current_config(content, prefix.rstrip("."), announce)
    return OmegaConf.create(content if content is not None else {})


def _settle(node: yaml.Node, key: str, in_list: bool) -> None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == DEFAULTS:
                _settle_choices(value)
            else:
                _settle(value, f"{key}.{name.value}".lstrip("."), False)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _settle(item, key, True)
    elif is_text(key, in_list) and (in_list or node.tag != f"{SCALARS}null") and node.tag.startswith(SCALARS):
        node.tag = f"{SCALARS}str"


def _settle_choices(node: yaml.Node) -> None:
    """Names of files are text, also those of numbers such as data_shape: 512; null chooses none."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag in (f"{SCALARS}int", f"{SCALARS}float"):
            node.tag = f"{SCALARS}str"
        return
    for part in node.value if isinstance(node, yaml.SequenceNode) else [value for _, value in node.value]:
        _settle_choices(part)


def register() -> None:
    """Puts our FileConfigSource in the place of Hydra's; harmless when repeated."""
    types: dict[str, type[ConfigSource]] = SourcesRegistry.instance().types
    types["file"] = FileConfigSource
