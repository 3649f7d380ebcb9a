"""The leaderboard as an image: a bar per job, best first, with what it cost beside it; below, what did not finish."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssd.sweeps.outcome import FAILED
from ssd.sweeps.rows import Row, finished, millions, number, warning
from ssd.utils.atomic_files import atomic_write

BARS, OTHERS = 40, 12  # most that are drawn; all are in the table
NAME, LINE = 56, 150  # most characters of a job's name, and of a line of text
WIDTH, BAR, TEXT, TOP, BOTTOM = 11.0, 0.34, 0.22, 0.95, 0.3  # inches: of all, per bar, per line, margins
AXIS = 0.5  # inches between the last bar and the text: ticks and their label
BARS_END = 0.61  # as shares of the width, like the right edges of the columns that follow
COLUMNS = (0.685, 0.775, 0.865, 0.97)


def draw(rows: Sequence[Row], shared: str, path: Path) -> None:
    """Writes the PNG. matplotlib is used without pyplot: no window, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ranked = [row for row in rows if finished(row)]
    others = [row for row in rows if not finished(row)]
    lines = [(f"{row.outcome.state}: {row.name}: {row.outcome.reason}", row.outcome.state == FAILED) for row in others]
    lines = lines[:OTHERS]
    if hidden := max(0, len(ranked) - BARS) + max(0, len(others) - OTHERS):
        lines.append((f"and {hidden} more, in leaderboard.csv", False))
    bars = BAR * min(BARS, max(1, len(ranked)))
    height = TOP + bars + AXIS + TEXT * len(lines) + BOTTOM
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.02, 1 - 0.3 / height, f"Leaderboard: {len(ranked)} of {len(rows)} jobs finished", fontsize=12,
                weight="bold")  # fmt: skip
    above = [(warning(rows), "#b03030"), (shared and f"all with {shared}", "#555555")]
    for place, (line, tint) in enumerate((line, tint) for line, tint in above if line):
        figure.text(0.02, 1 - (0.5 + 0.17 * place) / height, _short(line, LINE), fontsize=8, color=tint)
    _bars(figure, ranked[:BARS], (1 - (TOP + bars) / height, bars / height))
    for at, (line, failed) in enumerate(reversed(lines)):
        color = "#b03030" if failed else "#777777"
        figure.text(0.02, (BOTTOM + TEXT * at) / height, _short(line, LINE), fontsize=8, color=color)
    with atomic_write(path) as draft:
        figure.savefig(draft, format="png", dpi=120)


def _bars(figure: Any, rows: Sequence[Row], span: tuple[float, float]) -> None:
    """Names, bars and columns of numbers; span: bottom and height of the bars, as shares of the figure."""
    names = [_short(f"{row.group}{row.rank} {row.name}" if row.group else row.name, NAME) for row in rows]
    left = 0.03 + 0.0069 * max((len(name) for name in names), default=10)
    axes = figure.add_axes((left, span[0], BARS_END - left, span[1]))
    values = [max(0.0, row.value) for row in rows]
    places = range(len(rows))
    axes.barh(places, values, height=0.62, color=["#1b6ca8" if row.rank == 1 else "#8fb8d8" for row in rows])
    axes.set_yticks(places, names, fontsize=9, family="monospace")
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)  # the best on top
    axes.set_xlim(0, max([*values, 1e-9]) * 1.02)
    what = "mAP" if all("map_11pt" in row.metrics for row in rows) else "value"
    axes.set_xlabel("mAP (11-point)" if what == "mAP" else what, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    step = span[1] / max(1, len(rows))
    columns = [(what, "seconds", "images/s", "parameters"), *(_cells(row) for row in rows)]
    for at, cells in enumerate(columns):
        middle = span[0] + span[1] + step * 0.5 - step * at
        for cell, edge in zip(cells, COLUMNS, strict=True):
            figure.text(
                edge, middle, cell, ha="right", va="center", fontsize=9, color="#555555" if at == 0 else "black"
            )


def _cells(row: Row) -> tuple[str, str, str, str]:
    done = row.outcome
    value = number(row.value, 4) if row.value > float("-inf") else ""
    return value, number(done.seconds, 0), number(row.speed, 1), millions(done.parameters)


def _short(text: str, widest: int) -> str:
    return text if len(text) <= widest else f"{text[: widest - 1]}…"
