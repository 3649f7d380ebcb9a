"""The jobs of a sweep, best first: leaderboard.csv, leaderboard.md, leaderboard.png, and the same on the console."""

import csv
import io
import json
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.files import write_atomically
from ssd.sweeps.outcome import FAILED, FINISHED, Outcome, read_all

log = logging.getLogger(__name__)

NAME = "leaderboard"
METRICS = ("map_11pt", "map_area", "epoch")  # of metrics.json, where a job has them
SPEED = "train/images_per_second"  # of metrics.csv


@dataclass(frozen=True)
class Row:
    """A job. words: those it does not share with all the others, exactly; speed: images/s in training."""

    folder: Path
    outcome: Outcome
    words: str
    metrics: dict[str, float | None]
    speed: float | None

    @property
    def name(self) -> str:
        """The words for a reader: numbers with four digits, no quotes around them."""
        words = re.sub(r"\d+\.\d{4,}(e-?\d+)?", lambda match: f"{float(match[0]):.4g}", self.words)
        return re.sub(r"'(\d+)'", r"\1", words)

    @property
    def value(self) -> float:
        """What it is ranked by; -inf for a job without."""
        value = self.outcome.value if self.outcome.value is not None else self.metrics.get("map_11pt")
        return float("-inf") if value is None else float(value)


def make_leaderboard(sweep: Path) -> int:
    """Writes the leaderboard of the sweep in this folder and logs it; returns how many jobs failed."""
    rows = collect(sweep)
    if not rows:
        return 0
    from ssd.sweeps.chart import draw
    from ssd.tracking.mlflow_leaderboard import send_leaderboard

    shared = " ".join(common_words([row.outcome.words for row in rows]))
    table, page, picture = (sweep / f"{NAME}.{kind}" for kind in ("csv", "md", "png"))
    text = as_markdown(rows, shared)
    write_atomically(table, as_csv(rows).encode())
    write_atomically(page, text.encode())
    draw(rows, shared, picture)
    for line in text.splitlines():
        log.info("%s", line)
    log.info("%-12s %s", NAME, sweep / f"{NAME}.{{csv,md,png}}")
    send_leaderboard(sweep, [table, page, picture])
    return sum(row.outcome.state == FAILED for row in rows)


def collect(sweep: Path) -> list[Row]:
    """The jobs of a sweep: finished ones first, best first, then the rest as they were started."""
    found = read_all(sweep)
    shared = set(common_words([outcome.words for outcome in found.values()]))
    rows = []
    for folder, outcome in found.items():
        own = [word for word in outcome.words if word not in shared]
        rows.append(
            Row(folder, outcome, " ".join(own or outcome.words) or "defaults", _metrics(folder), _speed(folder))
        )
    return sorted(rows, key=lambda row: (row.outcome.state != FINISHED, -row.value if finished(row) else 0.0))


def finished(row: Row) -> bool:
    return row.outcome.state == FINISHED


def common_words(lines: Sequence[Sequence[str]]) -> list[str]:
    """Words that all command lines of several share; none of a single one."""
    if len(lines) < 2:
        return []
    return [word for word in lines[0] if all(word in line for line in lines)]


def as_csv(rows: Sequence[Row]) -> str:
    out = io.StringIO(newline="")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["rank", "job", "state", "words", "value", *METRICS, "seconds", "images_per_second", "parameters",
                    "reason", "folder"])  # fmt: skip
    for rank, row in enumerate(rows, start=1):
        done = row.outcome
        cells = [rank if finished(row) else None, done.number, done.state, row.words, done.value,
                 *(row.metrics.get(name) for name in METRICS), done.seconds, _round(row.speed), done.parameters,
                 done.reason, row.folder]  # fmt: skip
        table.writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()


def as_markdown(rows: Sequence[Row], shared: str) -> str:
    """A table of what finished, and a list of what did not, with the reasons."""
    header = ["", "words", "mAP 11pt", "mAP area", "epoch", "seconds", "images/s", "parameters", "job"]
    lines = [header]
    for rank, row in enumerate(filter(finished, rows), start=1):
        metrics = [number(row.metrics.get(name), digits) for name, digits in zip(METRICS, (4, 4, 0), strict=True)]
        done = row.outcome
        lines.append([str(rank), f"`{row.name}`", *metrics, number(done.seconds, 0), number(row.speed, 1),
                      millions(done.parameters), row.folder.name])  # fmt: skip
    text = [f"All with `{shared}`.", ""] if shared else []
    text += _table(lines, right=range(2, len(header) - 1)) if len(lines) > 1 else ["No job finished."]
    if others := [row for row in rows if not finished(row)]:
        text.append("")
        text += [f"- {row.outcome.state}: `{row.name}`: {row.outcome.reason} ({row.folder.name})" for row in others]
    return "\n".join(text) + "\n"


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.2f} M"


def _table(lines: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """Markdown that is readable as text: cells padded to columns."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*cells, strict=True)]
    padded = [[f"{cell:{'>' if at in right else '<'}{widths[at]}}" for at, cell in enumerate(line)] for line in cells]
    rule = ["-" * (width - 1) + (":" if at in right else "-") for at, width in enumerate(widths)]
    return [f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:])]


def _metrics(folder: Path) -> dict[str, Any]:
    file = folder / "metrics.json"
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return {}


def _speed(folder: Path) -> float | None:
    """Mean over the epochs; without the first one, in which MXNet chooses its kernels, where there are others."""
    file = folder / "metrics.csv"
    if not file.is_file():
        return None
    with file.open(encoding="utf-8", newline="") as lines:
        speeds = [float(row[SPEED]) for row in csv.DictReader(lines) if row.get(SPEED)]
    speeds = [speed for speed in speeds[1:] or speeds if math.isfinite(speed)]
    return sum(speeds) / len(speeds) if speeds else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
