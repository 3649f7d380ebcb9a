"""Writes the reference part of conf/README.md: every group, its choices, every key with its default and comment.

    python tools/config_reference.py            # or: make reference
    python tools/config_reference.py --check    # fails when the file is stale

A comment after a value belongs to its key, and so do the comment lines below it that begin in the same column, and
those above it that begin in the column of the key. The comment at the head of a file says what the choice is.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ssd.config.renamed import GROUPS, KEYS, VALUES, VERSION

CONF = Path(__file__).resolve().parents[1] / "conf"
README = CONF / "README.md"
MARK = "<!-- Below this line: made by `make reference` out of the YAML files. Do not edit. -->\n"
PACKAGE = re.compile(r"# @package ([\w.]+)")  # of the keys of a file, where it is not its group
GLOBAL = "_global_"
INTERNAL = ("_target_", "defaults", "name", "heads")  # keys that nobody sets by hand
OWN_PACKAGE = "hydra"  # configuration of Hydra itself, not a group of ours
WEIGHTS = "weights"  # the registry of published weights, not a group either
WEIGHTS_KEYS = ("backbones", "format", "license", "accuracy")


@dataclass(frozen=True)
class Key:
    """name: dotted, as it is written on the command line. default: as written in the file."""

    name: str
    default: str
    comment: str


@dataclass(frozen=True)
class File:
    """A YAML file: its head comment and keys, named from `prefix` on."""

    text: str
    prefix: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def head(self) -> str:
        """What the comment at the top says."""
        overrides = []
        for line in self.lines:
            if PACKAGE.fullmatch(line):
                continue
            if not line.startswith("#"):
                break
            overrides.append(line.lstrip("# "))
        return " ".join(overrides)

    def entries(self) -> Iterator[Key]:
        package = next((match[1] for line in self.lines if (match := PACKAGE.fullmatch(line))), self.prefix)
        prefix = "" if package == GLOBAL else package
        node = yaml.compose(self.text)
        return self._below(node, f"{prefix}." if prefix else "") if isinstance(node, yaml.MappingNode) else iter(())

    def _below(self, node: yaml.MappingNode, prefix: str) -> Iterator[Key]:
        for key, value in node.value:
            if key.value in INTERNAL:
                continue
            name = f"{prefix}{key.value}"
            comment = self._comment(key.start_mark.line, key.start_mark.column, value)
            if isinstance(value, yaml.MappingNode) and not value.flow_style and value.value:
                if comment:
                    yield Key(name, "", comment)
                yield from self._below(value, f"{name}.")
            else:
                yield Key(name, self.text[value.start_mark.index : value.end_mark.index].strip(), comment)

    def _comment(self, line: int, column: int, value: yaml.Node) -> str:
        above: list[str] = []
        at = line - 1
        while at >= 0 and not self.lines[at][:column].strip() and self.lines[at][column:].startswith("# "):
            above.insert(0, self.lines[at].strip().lstrip("# "))
            at -= 1
        if at < 0:  # the head of the file
            above = []
        end = line if isinstance(value, yaml.MappingNode) and not value.flow_style else value.end_mark.line
        start = value.end_mark.column if end == value.end_mark.line else column
        trailing = self.lines[end].find(" # ", max(0, start - 1)) if end < len(self.lines) else -1
        beside: list[str] = []
        if trailing >= 0:
            beside.append(self.lines[end][trailing + 3 :])
            for below in self.lines[end + 1 :]:
                if below[: trailing + 1].strip() or not below[trailing + 1 :].startswith("# "):
                    break
                beside.append(below.strip().lstrip("# "))
        return " ".join([*above, *beside])


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def code(text: str) -> str:
    return f"`{cell(text)}`".replace("&lt;", "<") if text else ""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, tuple("---" for _ in head), *rows)]
    return "\n".join(lines) + "\n"


def keys_table(file: File) -> str:
    rows = [(code(key.name), code(key.default), cell(key.comment)) for key in file.entries()]
    return table(("key", "default", "meaning"), rows) if rows else ""


def reference() -> str:
    """The generated part."""
    root = File((CONF / "config.yaml").read_text(), "")
    parts = ["## Keys of every run\n", keys_table(root)]
    others = (OWN_PACKAGE, WEIGHTS)
    groups = sorted(folder for folder in CONF.iterdir() if folder.is_dir() and folder.name not in others)
    for group in groups:
        files = {path.stem: File(path.read_text(), group.name) for path in sorted(group.glob("*.yaml"))}
        parts.append(f"## {group.name}=\n")
        parts.append(table(("choice", "what it is"), [(code(name), cell(file.head())) for name, file in files.items()]))
        if group.name != "experiments":
            parts += [f"`{group.name}={name}`\n\n{keys}" for name, file in files.items() if (keys := keys_table(file))]
    return "\n".join([*parts, "## Weights by name\n", weights_table(), f"## Renamed in {VERSION}\n", renamed()])


def renamed() -> str:
    """The names of earlier versions, which are still accepted."""
    rows = [(f"{old}=", f"{new}=") for old, new in (*KEYS.items(), *GROUPS.items())]
    for key, choices in VALUES.items():
        values = [(f"{key}={old}", f"{KEYS[key]}={str(new).lower()}") for old, new in choices.items()]
        at = rows.index((f"{key}=", f"{KEYS[key]}="))
        rows[at : at + 1] = values
    return table((f"before {VERSION}", "today"), [(code(old), code(new)) for old, new in rows])


def weights_table() -> str:
    """The registry: init.weights=NAME, or model=NAME for a detector."""
    rows = []
    for file in sorted((CONF / WEIGHTS).glob("*/*.yaml")):
        text = file.read_text()
        values = yaml.safe_load(text)
        known = [values[key] or "" for key in WEIGHTS_KEYS]
        cells = [cell(", ".join(value) if isinstance(value, list) else value) for value in known]
        rows.append((code(f"{file.parent.name}/{file.stem}"), *cells, cell(File(text, "").head())))
    return table(("name", *WEIGHTS_KEYS, "what it is"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file is stale")
    options = parser.parse_args()
    before = README.read_text() if README.is_file() else ""
    after = before.partition(MARK)[0] + MARK + "\n" + reference()
    if options.check and after != before:
        sys.exit(f"error: {README}: stale; run `make reference`")
    if not options.check:
        README.write_text(after)


if __name__ == "__main__":
    main()
