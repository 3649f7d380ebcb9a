"""Expressions of a configuration: those that a text could keep busy are refused before they are matched."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.datasets.splits import HoldOut
from ssd.tracking.tensorboard import Monitoring
from ssd.utils.errors import UserError
from ssd.utils.patterns import LONGEST, compiled

HARD = [
    "(a+)+$","(a|aa)+$", "(a|a)*b", r"(\w+_?)*x", r"(\w+\s?)*$", r"([a-z]+)*\d", "(.*a){30}", "(a?){40}a{40}",
    "((a{1,50}){1,50}){1,50}b", "(a|a?)+b", "(?:a?a)*b", "(x+x+)+y", r"(.*?,){20}P", ".*.*.*.*=", "a*a*a*a*a*b",
    "(?=(a+)+b)a",    "(?!(a+)+b)a", "(?i)(a+|A)*b", "(?i:[a-m]+[A-M]+)*x", r"([^a]+A)*b", "(é+|É)*b",
    "(a*)*b", r"(\d+|\w+)*-", "(a+|b+|c+)*[a]x",
    r"((ab)+|a?b)*c", r"(a)(?:(?(1)a|b)a?)*c", r"((.)\2*)*x", "(?a:[\\Wé]+é)*x",
]  # fmt: skip
EASY = [
    "","^(conv1_|conv2_).*", "^stage1_", r"(.*)_\d+\.jpg$", r"^[^_]+_[^_]+_", r"([^_]+_)+x", r"p\d+", r"(\d+_)*\d+",
    r"(\d{1,3}\.){3}\d{1,3}", r"^(?:seq|sec)\d\d-\w+$", r"video-(?P<clip>\w+?)-frame", r"(foo|far)*x", "(a|b|c)+d",
    r"weights/.*(conv|bn).*_weight", r"(?:.*/)?([^/]*)-\d{4}", "(ab?)*c", "(a+b+)*c", r"(\s*\w+,)*;", "(ä+ö)*x",
]  # fmt: skip


@pytest.mark.parametrize("text", HARD)
def test_what_takes_too_many_ways_is_refused(text: str) -> None:
    re.compile(text)  # it is an expression
    with pytest.raises(UserError, match="key=.* in too many ways"):
        compiled(text, "key")


@pytest.mark.parametrize("text", EASY)
def test_usual_expressions_are_taken(text: str) -> None:
    assert compiled(text, "key").pattern == text


@pytest.mark.parametrize(("text", "part"), [("(", "not a regular expression"), ("a{3,1}", "not a regular expression"),
                         ("a" * (LONGEST + 1), "at most 500 characters, it has 501"),
                         ("a{99999999999}", "not a regular expression")])  # fmt: skip
def test_what_is_none_is_refused(text: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        compiled(text, "key")


@pytest.mark.parametrize("text", ["(" * 240 + ")" * 240, "(?:" * 120 + "a" + ")*" * 120, "(a|" * 100 + ")" * 100])
def test_deep_ones_are_taken_or_refused(text: str) -> None:
    with contextlib.suppress(UserError):
        compiled(text, "key")


ATOMS = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\w", r"\W", "(?:a|b)", "(?:ab|a)", "_"])
REPEATED = st.tuples(ATOMS, st.sampled_from(["", "", "?", "*", "+", "{2,3}", "*?"])).map("".join)
SEQUENCES = st.lists(REPEATED, min_size=1, max_size=3).map("".join)
GROUPS = st.tuples(SEQUENCES, st.sampled_from(["*", "+", "?", "{1,30}", ""]), SEQUENCES).map(
    lambda parts: f"(?:{parts[0]}){parts[1]}{parts[2]}"
)


@given(GROUPS, st.text("ab_é\n", max_size=40))
def test_what_is_taken_is_matched_soon(text: str, name: str) -> None:
    """One that took 2^n steps would not end here."""
    try:
        pattern = compiled(text, "key")
    except UserError:
        return
    for hard in (name, "a" * 60, "ab" * 30, "a_" * 30):
        pattern.match(hard + "\0")


def test_every_key_that_holds_one_checks_it() -> None:
    with pytest.raises(UserError, match="dataset.group_by=.* in too many ways"):
        HoldOut.from_config({"val": 0.1, "test": 0.0, "seed": 0, "group_by": "(a+)+$"})
    with pytest.raises(UserError, match="logger.tensorboard.monitor.pattern=.* in too many ways"):
        Monitoring(1, "(a+)+$")
