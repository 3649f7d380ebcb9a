"""The leaderboard as a picture: a bar per job, best first, with what it cost beside it."""

from collections.abc import Sequence
from pathlib import Path

from ssd.files import whole_file
from ssd.sweeps.leaderboard import Row, finished, millions, number
from ssd.sweeps.outcome import FAILED

BARS, OTHERS = 40, 12  # most that are drawn; all are in the table
WIDEST = 70  # characters of a name
INCHES = 0.34  # per line
COLUMNS = (
    ("value", 0.075),
    ("seconds", 0.165),
    ("images/s", 0.255),
    ("parameters", 0.36),
)  # right edges, from the bars on


def draw(rows: Sequence[Row], shared: str, path: Path) -> None:
    """Writes the PNG. matplotlib is used without pyplot: no window, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ranked = [row for row in rows if finished(row)][:BARS]
    others = [row for row in rows if not finished(row)][:OTHERS]
    names = [_short(row.name) for row in ranked]
    left = min(0.42, 0.03 + 0.0072 * max((len(name) for name in names), default=10))
    height = INCHES * (max(1, len(ranked)) + len(others)) + 1.3
    figure = Figure(figsize=(11, height), facecolor="white")
    FigureCanvasAgg(figure)
    bottom = (0.55 + INCHES * len(others)) / height
    axes = figure.add_axes((left, bottom, 0.61 - left, 1 - bottom - 0.75 / height))
    values = [max(0.0, row.value) if row.value > float("-inf") else 0.0 for row in ranked]
    places = range(len(ranked))
    axes.barh(places, values, height=0.62, color=["#1b6ca8" if at == 0 else "#8fb8d8" for at in places])
    axes.set_yticks(places, names, fontsize=9, family="monospace")
    axes.set_ylim(max(1, len(ranked)) - 0.5, -0.5)  # the best on top
    axes.set_xlim(0, max([*values, 1e-9]) * 1.02)
    is_map = all("map_11pt" in row.metrics for row in ranked)
    axes.set_xlabel("mAP (11-point)" if is_map else "value", fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    for title, edge in COLUMNS:
        figure.text(0.61 + edge, 1 - 0.62 / height, title, ha="right", fontsize=9, color="#555555")
    for at, row in enumerate(ranked):
        cells = (number(row.value, 4) if row.value > float("-inf") else "", number(row.outcome.seconds, 0),
                 number(row.speed, 1), millions(row.outcome.parameters))  # fmt: skip
        middle = axes.transData.transform((0, at))[1] / figure.bbox.height
        for cell, (_, edge) in zip(cells, COLUMNS, strict=True):
            figure.text(0.61 + edge, middle, cell, ha="right", va="center", fontsize=9)
    for at, row in enumerate(others):
        line = _short(f"{row.outcome.state}: {row.name}: {row.outcome.reason}", 150)
        colour = "#b03030" if row.outcome.state == FAILED else "#777777"
        figure.text(0.02, (INCHES * (len(others) - at) - 0.15) / height, line, fontsize=8, color=colour)
    counted = f"{sum(finished(row) for row in rows)} of {len(rows)} jobs finished"
    figure.text(0.02, 1 - 0.3 / height, f"Leaderboard: {counted}", fontsize=12, weight="bold")
    if shared:
        figure.text(0.02, 1 - 0.5 / height, _short(f"all with {shared}", 150), fontsize=8, color="#555555")
    with whole_file(path) as draft:
        figure.savefig(draft, format="png", dpi=120)


def _short(text: str, widest: int = WIDEST) -> str:
    return text if len(text) <= widest else f"{text[: widest - 1]}…"
