"""Nested configurations: as one dict of dotted keys, and with all their texts changed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def leaves(node: Any) -> dict[str, Any]:
    """{"a": {"b": 1}, "c": {}} -> {"a.b": 1, "c": {}}; lists and empty mappings are leaves."""
    return dict(each_leaf(node)) if node else {}


def each_leaf(
    value: Any, key: str | None = None, enters: Callable[[str], bool] = lambda key: False
) -> Iterator[tuple[str, Any]]:
    """(dotted key, leaf) of a value below a key, in order.

    enters: whether the items of a list at this key are leaves of their own, each with the key of the list.
    """
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from each_leaf(inner, str(name) if key is None else f"{key}.{name}", enters)
    elif isinstance(value, list) and value and enters(str(key)):
        for inner in value:
            yield from each_leaf(inner, key, enters)
    else:
        yield str(key), value


def map_texts(node: Any, change: Callable[[str], Any]) -> Any:
    """Plain data with `change` of every text in place of it; keys stay. Tuples become lists."""
    if isinstance(node, Mapping):
        return {name: map_texts(value, change) for name, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [map_texts(value, change) for value in node]
    return change(node) if isinstance(node, str) else node
