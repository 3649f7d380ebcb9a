"""YAML out of files that others wrote: plain data, soon and in little memory, whatever they hold.

YAML's own reader builds more than a file holds: aliases name a part again and again, so that a kilobyte stands for
gigabytes, and numbers of base 60 (1:30:00) take time by the square of their length. Here a file is read as its parts
come, none twice, and counted.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from ssd.utils.atomic_files import read_text
from ssd.utils.errors import UserError

MAX_BYTES = 1_000_000
MAX_NODES = 250_000  # values and keys: names and numbers of 100,000 classes, and some
MAX_DEPTH = 32
MAX_DIGITS = 400  # of a number; a float64 has at most 309 before the point
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of libyaml where there is one: ten times as fast
RESOLVER = yaml.resolver.Resolver()
TAGS = "tag:yaml.org,2002:"
TRUTH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
BASES = (("0b", 2), ("0x", 16))
SPECIAL_FLOATS = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}


class PlainYamlError(ValueError):
    """Why a text is not read; starts with its line where one is to blame."""


def read_yaml(path: Path, what: str, written: Collection[str] = ()) -> Any:
    """A file as dicts, lists, texts, numbers, truth values and None. what: the kind of file ("a data.yaml").

    Dates and numbers of base 60 stay text. written: keys of the whole whose values are the text that is written there,
    one or a list or a dict of such: to YAML no, 010, 12:30 and ~ are a truth value, numbers and nothing. What is nested
    deeper there is no text, and becomes an empty list.
    Errors: UserError in one line.
    """
    try:
        return parse_yaml(read_text(path, MAX_BYTES, what), written)
    except PlainYamlError as error:
        raise UserError(f"{path}: cannot be read as YAML: {error}") from error


def parse_yaml(text: str, written: Collection[str] = ()) -> Any:
    """The same of a text. Errors: PlainYamlError."""
    try:
        return _Reader(written).read(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise PlainYamlError(_reason(error)) from error


def _reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = " ".join(str(getattr(error, "problem", None) or error).split())[:120]
    return problem if mark is None else f"line {mark.line + 1}: {problem}"


class _Reader:
    def __init__(self, written: Collection[str]) -> None:
        self._written = written
        self._nodes = 0
        self._events: Any = iter(())

    def read(self, text: str) -> Any:
        self._events = iter(yaml.parse(text, Loader=LOADER))
        next(self._events)  # the stream begins
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        content = self._value(next(self._events), 0, False)
        next(self._events)  # the document ends
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise _error(event, "a second document begins, expected one")
        return content

    def _value(self, event: Any, depth: int, as_written: bool) -> Any:
        self._nodes += 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _error(event, f"{event.anchor!r} is an anchor or alias, which are not read; write values in full")
        if self._nodes > MAX_NODES:
            raise _error(event, f"more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            raise _error(event, f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.ScalarEvent):
            return event.value if as_written else _scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(event, depth, as_written)
        return self._dict(event, depth, as_written)

    def _list(self, start: Any, depth: int, as_written: bool) -> list[Any]:
        _check_tag(start, "seq")
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._item(event, depth, as_written))
        return items

    def _dict(self, start: Any, depth: int, as_written: bool) -> dict[Any, Any]:
        _check_tag(start, "map")
        content = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _error(event, "a key is a list or a mapping, expected text or a number")
            key = self._value(event, depth + 1, as_written)
            inside = depth == 0 and key in self._written
            event = next(self._events)
            content[key] = self._value(event, depth + 1, True) if inside else self._item(event, depth, as_written)
        return content

    def _item(self, event: Any, depth: int, as_written: bool) -> Any:
        value = self._value(event, depth + 1, as_written)
        return [] if as_written and not isinstance(value, str) else value


def _error(event: Any, problem: str) -> PlainYamlError:
    return PlainYamlError(f"line {event.start_mark.line + 1}: {problem}")


def _check_tag(event: Any, kind: str) -> None:
    if event.tag not in (None, "!", f"{TAGS}{kind}"):
        raise _error(event, f"tag {event.tag[:60]!r} is not read")


def _scalar(event: Any) -> Any:
    tag = event.tag
    if tag in (None, "!"):
        tag = RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)
    kind, text = tag.removeprefix(TAGS), event.value
    if kind in ("str", "timestamp", "merge", "value") or (kind in ("int", "float") and ":" in text):  # of base 60
        return text
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return TRUTH[text.lower()]
        if kind in ("int", "float") and len(text) > MAX_DIGITS:
            raise _error(event, f"a number of {len(text)} characters")
        if kind == "int":
            return _whole(text)
        if kind == "float":
            return _number(text)
    except PlainYamlError:
        raise
    except (ValueError, KeyError) as error:
        raise _error(event, f"{text[:60]!r} is no {kind}") from error
    raise _error(event, f"tag {tag[:60]!r} is not read")


def _whole(text: str) -> int:
    digits = text.replace("_", "").lower()
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    for start, base in BASES:
        if digits.startswith(start):
            return sign * int(digits[2:], base)
    # YAML 1.1, which this loader's rules are of, counts by eight behind a zero.
    return sign * int(digits, 8 if re.fullmatch("0[0-7]+", digits) else 10)


def _number(text: str) -> float:
    digits = text.replace("_", "").lower()
    return SPECIAL_FLOATS[digits] if digits in SPECIAL_FLOATS else float(digits)
