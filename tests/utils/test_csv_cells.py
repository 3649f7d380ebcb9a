import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.utils import csv_cells
from ssd.utils.csv_cells import CsvWriter, original, shielded

FORMULAS = ["=cmd|' /C calc'!A0", "+x=1", "-dog", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1", "-", "-1+2", "-0x1", "+1e"]
NUMBERS = ["-0.5", "+1", "-1e-05", "-.5", "-inf", "-nan", "1", "-3."]
TEXTS = st.text(st.sampled_from("'=+-@\t\r\n＝1.e,\"; abcäinf"), max_size=8)


def written(*rows) -> str:
    out = io.StringIO(newline="")
    CsvWriter(out).writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_compute_is_text(text):
    (cell,) = next(csv.reader(io.StringIO(written([text]), newline="")))
    assert cell == f"'{text}"
    assert original(cell) == text


@pytest.mark.parametrize("text", [*NUMBERS, "a=b", "'", "it's", "", " =x", "'tis"])
def test_numbers_and_other_texts_stay(text):
    assert shielded(text) == original(text) == text


def test_numbers_are_not_quoted():
    assert written([-0.5, -3, None, float("-inf"), "-0.5"]) == "-0.5,-3,,-inf,-0.5\n"


@given(TEXTS)
def test_every_text_comes_back(text):
    cell = shielded(text)
    assert original(cell) == text
    assert cell[:1] == "" or cell[0] not in csv_cells.FORMULA or csv_cells.NUMBER.fullmatch(cell)


@given(st.lists(TEXTS, min_size=1, max_size=4), st.lists(TEXTS, min_size=4, max_size=4))
def test_every_row_comes_back(columns, row):
    columns = [f"{number}{name}" for number, name in enumerate(columns)]
    row = row[: len(columns)]
    assert csv_cells.read(io.StringIO(written(columns, row), newline="")) == (
        columns, [dict(zip(columns, row, strict=True))],
    )  # fmt: skip


def test_short_and_long_rows():
    assert csv_cells.read(io.StringIO("a,b\n1\n\n1,2,3\n")) == (["a", "b"], [{"a": "1", "b": ""}, {"a": "1", "b": "2"}])


def test_what_is_not_csv():
    with pytest.raises(ValueError, match="not CSV"):
        csv_cells.read(io.StringIO(f"a\n{'x' * 200_000}\n"))


def test_the_project_writes_csv_nowhere_else():
    package = Path(csv_cells.__file__).parents[1]
    others = [path.name for path in package.rglob("*.py") if "csv.writer" in path.read_text() or
              "csv.DictWriter" in path.read_text()]  # fmt: skip
    assert others == []
