"""conf/README.md: what the tool makes of comments, and that the file is the one it makes."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from ssd.config.schema import Config

ROOT = Path(__file__).resolve().parents[2]

TEXT = """\
# What the choice
# is for.
defaults:
  - other
_target_: module.Class
name: some
plain: 1
beside: [1, 2]   # a list | or none
                 # on two lines
nested:          # of both
  # above
  inner: null    # after <that>
  # not of inner: another column
deep: {a: 1}
"""


@pytest.fixture(scope="module")
def tool(module_at: Callable[[Path], ModuleType]) -> ModuleType:
    return module_at(ROOT / "tools" / "config_reference.py")


def test_comments_find_their_keys(tool) -> None:
    file = tool.File(TEXT, "group")
    assert file.head() == "What the choice is for."
    assert [(key.name, key.default, key.comment) for key in file.entries()] == [
        ("group.plain", "1", ""),
        ("group.beside", "[1, 2]", "a list | or none on two lines"),
        ("group.nested", "", "of both"),
        ("group.nested.inner", "null", "above after <that>"),
        ("group.deep", "{a: 1}", ""),
    ]


def test_cells_are_markdown(tool) -> None:
    assert tool.cell("a | b\n <c>") == "a \\| b &lt;c>"


def test_a_global_package_has_no_prefix(tool) -> None:
    file = tool.File("# @package _global_\n# Head.\nkey: 1\n", "job")
    assert file.head() == "Head."
    assert [key.name for key in file.entries()] == ["key"]
    file = tool.File("# @package init.weight_map\n# Head.\nkey: 1\n", "weight_map")
    assert file.head() == "Head."
    assert [key.name for key in file.entries()] == ["init.weight_map.key"]


def test_the_reference_is_up_to_date(tool) -> None:
    text = (ROOT / "conf" / "README.md").read_text()
    assert text.partition(tool.MARK)[2] == "\n" + tool.reference(), "stale; run: make reference"
    for field in fields(Config):
        assert f"`{field.name}" in text or f"## {field.name}=" in text, f"conf/README.md lacks {field.name}"
