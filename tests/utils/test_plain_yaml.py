"""YAML that others wrote."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ssd.utils.errors import UserError
from ssd.utils.plain_yaml import MAX_BYTES, MAX_NODES, PlainYamlError, parse_yaml, read_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: [1, -2, +3, 0x1F, 0b11, 0o17, 017, 1_000]", {"a": [1, -2, 3, 31, 3, "0o17", 15, 1000]}),
        ("a: [1.5, 1e3, 1.0e+3, .5, .inf, -.INF]", {"a": [1.5, "1e3", 1000.0, 0.5, float("inf"), float("-inf")]}),
        ("a: [yes, No, true, ~, null]", {"a": [True, False, True, None, None]}),
        ("a: [1:30:00, 1:30.5, 2024-01-31, 08, <<, =]", {"a": ["1:30:00", "1:30.5", "2024-01-31", "08", "<<", "="]}),
        ("a: ['1', \"yes\", !!str 3, !!int '7']", {"a": ["1", "yes", "3", 7]}),
        ("{2: a, true: b, ~: c}", {2: "a", True: "b", None: "c"}),
        ("", None),
        ("# nothing", None),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
    ],
)
def test_values(text, value) -> None:
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "line 1: 'a0' is an anchor"),
        ("ssd: *i", "line 1: 'i' is an anchor or alias"),
        ("ssd: &i 1", "'i' is an anchor"),
        ("a: !!python/object/apply:os.system [x]", "tag .* is not read"),
        ("a: !!binary aGk=", "tag .* is not read"),
        ("a: !!set {x}", "tag .* is not read"),
        ("? [a]\n: b", "a key is a list"),
        ("a: 1\n---\nb: 2", "a second document"),
        ("[" * 40 + "]" * 40, "nested more than 32 deep"),
        ("- " * 40 + "x", "nested more than 32 deep"),
        (f"[{'1,' * (MAX_NODES + 1)}]", f"more than {MAX_NODES} values"),
        (f"a: {'9' * 5000}", "a number of 5000 characters"),
        ("a: !!int x", "'x' is no int"),
        ("a: [", "line 2: did not find expected node content"),
        ("a: \x07", "special characters|unacceptable character"),
    ],
)
def test_what_is_refused(text, message) -> None:
    with pytest.raises(PlainYamlError, match=message):
        parse_yaml(text)


def test_numbers_of_base_60_cost_nothing() -> None:
    text = "1" + ":1" * 300_000
    assert parse_yaml(f"nc: {text}") == {"nc": text}


def test_text_stays_as_it_is_written() -> None:
    text = "names: {0: no, 1: 010, 2: 12:30, 3: ~, 4: [x], 5: {a: b}}\nnc: 010\nother: {names: [no]}"
    names = {"0": "no", "1": "010", "2": "12:30", "3": "~", "4": [], "5": []}
    assert parse_yaml(text, ["names"]) == {"names": names, "nc": 8, "other": {"names": [False]}}
    assert parse_yaml("names: [on, 1.50, [x]]", ["names"]) == {"names": ["on", "1.50", []]}
    assert parse_yaml("names: 3", ["names"]) == {"names": "3"}


def test_files(tmp_path) -> None:
    path = tmp_path / "data.yaml"
    path.write_bytes(b"a: &x 1")
    with pytest.raises(UserError, match="data.yaml: cannot be read as YAML: line 1: 'x' is an anchor"):
        read_yaml(path, "a data.yaml")
    path.write_text("a" * (MAX_BYTES + 1))
    with pytest.raises(UserError, match="more than 1 MB are too many for a data.yaml"):
        read_yaml(path, "a data.yaml")


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdé 1:", max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_it_reads_what_yaml_reads(content) -> None:
    text = yaml.dump(content, Dumper=Plain, allow_unicode=True)
    assert parse_yaml(text) == yaml.safe_load(text)


class Plain(yaml.SafeDumper):
    """Writes equal parts twice rather than as aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True
