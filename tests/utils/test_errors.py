"""Parts of messages."""

import pytest

from ssd.utils.errors import first_few


@pytest.mark.parametrize(
    ("items", "most", "separator", "text"),
    [
        ([], 2, ", ", ""),
        (["a"], 1, ", ", "a"),
        (["a", "b"], 2, ", ", "a, b"),
        (["a", "b"], 1, ", ", "a and 1 more"),
        (["a", "b", "c", "d"], 2, "; ", "a; b and 2 more"),
    ],
)
def test_first_few(items: list[str], most: int, separator: str, text: str) -> None:
    assert first_few(items, most, separator) == text
