import logging

import pytest

from ssd.utils.logs import OneLine, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("häuser 日本 \U0001f600 a\tb", "häuser 日本 \U0001f600 a\tb"),
        ("a\nb\r\x0b", r"a\nb\r\x0b"),
        ("\x1b]0;title\x07\x7f\x9b2J", r"\x1b]0;title\x07\x7f\x9b2J"),
        ("a\u2028b\x85", r"a\u2028b\x85"),
    ],
)
def test_names_do_nothing_to_a_terminal(text, shown):
    assert one_line(text) == shown


def test_a_message_is_one_line_and_a_traceback_stays():
    try:
        raise ValueError("x")
    except ValueError as error:
        record = logging.LogRecord("a", logging.INFO, "", 1, "%s", ("a\nb",), (ValueError, error, error.__traceback__))
    first, *rest = OneLine("%(message)s").format(record).split("\n")
    assert first == r"a\nb"
    assert rest[0] == "Traceback (most recent call last):"
