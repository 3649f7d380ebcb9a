"""Network descriptions that would take long to read."""

from pathlib import Path

import pytest

from ssd.importers.caffe.text import MAX_LINE, MAX_TOKENS, class_names, parse, read_prototxt
from ssd.utils.errors import UserError

LINE = 'unknown: "a"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: "' + '\\"' * 900_000, "a line of 1800007 characters"),
        (('name: "' + '\\"' * 9_000 + "\n") * 50, "1:7"),  # texts that do not end, line by line
        ("unknown: [" + "1, " * MAX_LINE + "1]", "a line of"),
        (LINE * MAX_TOKENS, f"{2 * MAX_TOKENS} tokens, more than {MAX_TOKENS}"),
        ("a {\n" * 40, "nested more than 32 deep"),
        ("\n".join("'\"#{" for _ in range(40)), "1:1"),  # brackets in texts and comments do not count
    ],
)
def test_it_takes_one_line_and_no_time(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        parse(read_prototxt(path), "NetParameter", path, unknown=True)


def test_unknown_options_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text('name: "a # { b"  # }\nunknown: [1,\n2]\nodd { x: 1 }')
    assert parse(read_prototxt(path), "NetParameter", path, unknown=True).name == "a # { b"


MAP = """
item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "aeroplane" label: 1 display_name: "plane" }
item { name: "bicycle" label: 2 }
"""


def test_lists(tmp_path: Path) -> None:
    assert class_names(["a", " b"], [1, 2]) == ["a", "b"]
    assert class_names(["background", "a", "b"], [1, 2]) == ["a", "b"]
    assert class_names(None, [1, 2]) == ["class 1", "class 2"]


def test_files(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("'n01 tench, Tinca'\n\n\"n02 goldfish\"\n")
    assert class_names(str(tmp_path / "names.txt"), [0, 1]) == ["n01 tench, Tinca", "n02 goldfish"]
    (tmp_path / "labelmap.prototxt").write_text(MAP)
    assert class_names(str(tmp_path / "labelmap.prototxt"), [1, 2]) == ["plane", "bicycle"]


def test_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 names, the network tells 2"):
        class_names(["a", "b", "c"], [1, 2])
    with pytest.raises(UserError, match="empty"):
        class_names(["a", " "], [1, 2])
    with pytest.raises(UserError, match="list of classes"):
        class_names(str(tmp_path / "nowhere.txt"), [1])
    (tmp_path / "labelmap.prototxt").write_text(MAP)
    with pytest.raises(UserError, match="no name for label 3"):
        class_names(str(tmp_path / "labelmap.prototxt"), [1, 3])
