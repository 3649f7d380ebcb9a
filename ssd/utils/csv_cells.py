"""The CSV files that this project writes, and reads back: a cell never is a formula to a spreadsheet.

Rule (OWASP, CSV injection): a text that begins with = + - @ (or their full-width forms), a tab or a line break gets an
apostrophe in front, which spreadsheets take for "this is text"; numbers such as -0.5 stay as they are.

Texts that begin with apostrophes before such a character get one more, so reading takes off what writing put on.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

FORMULA = "=+-@＝＋－＠\t\r\n"
QUOTED = re.compile(r'[",\r\n]')
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-](inf|nan)")


class Text(Protocol):
    def write(self, text: str, /) -> object: ...


def shielded(text: str) -> str:
    """The cell that stands for a text."""
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def original(cell: str) -> str:
    """The text that a cell stands for."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell.lstrip("'")) else cell


def _is_formula(text: str) -> bool:
    return text[:1] != "" and text[0] in FORMULA and not NUMBER.fullmatch(text)


def _quoted(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""')) if QUOTED.search(text) else text


class CsvWriter:
    """Writes rows of numbers and texts to an open file; None is an empty cell.

    Quotes itself: the writer of the module csv leaves a lone carriage return bare before Python 3.13, and its reader
    refuses that.
    """

    def __init__(self, file: Text) -> None:
        self._file = file

    def writerow(self, cells: Iterable[Any]) -> None:
        texts = ["" if cell is None else shielded(str(cell)) for cell in cells]
        self._file.write(",".join(map(_quoted, texts)) + "\n" if texts != [""] else '""\n')

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        for row in rows:
            self.writerow(row)


def read(lines: Iterable[str]) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows by column of a file with a header; what a short row lacks is empty.

    Errors: ValueError for what is not CSV.
    """
    try:
        table = [[original(cell) for cell in row] for row in csv.reader(lines) if row]
    except csv.Error as error:
        raise ValueError(f"not CSV ({error})") from error
    columns: list[str] = table[0] if table else []
    return columns, [_by_column(columns, row) for row in table[1:]]


def _by_column(columns: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    return {**dict.fromkeys(columns, ""), **dict(zip(columns, row, strict=False))}
