"""Network descriptions that would take long to read."""

from pathlib import Path

import pytest

from ssd.importers.caffe.text import MAX_LINE, MAX_WORDS, parse, read_prototxt
from ssd.utils.errors import UserError

LINE = 'unknown: "a"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: "' + '\\"' * 900_000, "a line of 1800007 characters"),
        (('name: "' + '\\"' * 9_000 + "\n") * 50, "1:7"),  # texts that do not end, line by line
        ("unknown: [" + "1, " * MAX_LINE + "1]", "a line of"),
        (LINE * MAX_WORDS, f"{2 * MAX_WORDS} words, more than {MAX_WORDS}"),
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
