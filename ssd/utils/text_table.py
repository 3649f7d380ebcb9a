"""Tables as lines of plain text, without colors or control characters: the same on a terminal and in a log file."""

from collections.abc import Sequence
from io import StringIO

from rich.console import Console, RenderableType
from rich.table import Table

from ssd.utils.logs import one_line

UNBOUNDED = 100_000  # characters a line, where a table may be as wide as its cells


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> list[str]:
    """The header and the rows of cells, two blanks between the columns.

    left: how many columns are text, which stands at the left of its column; numbers stand at the right.
    """
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(one_line(str(cell)) for cell in row))
    return rendered([table], UNBOUNDED)


def rendered(parts: Sequence[RenderableType], width: int) -> list[str]:
    """Tables and texts of rich, one below the other, at most `width` characters wide; texts are not wrapped."""
    canvas = Console(file=StringIO(), width=width, color_system=None, highlight=False, markup=False, emoji=False)
    for part in parts:
        canvas.print(part, soft_wrap=isinstance(part, str))
    return [line.rstrip() for line in canvas.file.getvalue().splitlines()]  # type: ignore[attr-defined]
