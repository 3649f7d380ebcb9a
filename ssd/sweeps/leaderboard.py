"""The jobs of a sweep, best first: leaderboard.csv, leaderboard.md, leaderboard.png, and the same on the console."""

import io
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssd.config.overrides import current_overrides
from ssd.config.renamed import silent
from ssd.runs.results import (
    group_letters,
    key_of,
    read_metrics,
    read_table,
    wrong_number,
)
from ssd.sweeps.outcome import FAILED, read_all
from ssd.sweeps.rows import Row, finished, millions, number, warning
from ssd.utils.atomic_files import write_atomically
from ssd.utils.csv_cells import CsvWriter
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

NAME = "leaderboard"
# Of metrics.json, where a job has them -> how a reader sees them.
METRICS = {"map_11pt": "mAP 11pt", "map_area": "mAP area", "test/map_11pt": "test mAP 11pt", "epoch": "epoch"}
SPEED = "train/images_per_second"  # of metrics.csv


def make_leaderboard(sweep: Path) -> int:
    """Writes the leaderboard of the sweep in this folder and logs it; returns how many jobs failed."""
    rows = collect(sweep)
    if not rows:
        return 0
    from ssd.sweeps.chart import draw
    from ssd.tracking.mlflow.leaderboard import send_leaderboard

    shared = " ".join(common_overrides([row.outcome.overrides for row in rows]))
    table, page, image = (sweep / f"{NAME}.{kind}" for kind in ("csv", "md", "png"))
    text = as_markdown(rows, shared)
    write_atomically(table, as_csv(rows).encode())
    write_atomically(page, text.encode())
    draw(rows, shared, image)
    for line in text.splitlines():
        log.info("%s", line)
    for name, place in ((NAME, page), ("table", table), ("chart", image)):
        log.info("%-12s %s", name, place)
    send_leaderboard(sweep, [table, page, image])
    return sum(row.outcome.state == FAILED for row in rows)


def collect(sweep: Path) -> list[Row]:
    """The jobs of a sweep: finished ones first, by groups that were measured alike and in these best first, then the
    rest as they were started."""
    found = {folder: replace(outcome, overrides=current_overrides(outcome.overrides, silent))
             for folder, outcome in read_all(sweep).items()}  # fmt: skip
    shared = set(common_overrides([outcome.overrides for outcome in found.values()]))
    rows = []
    for folder, outcome in found.items():
        own = [override for override in outcome.overrides if override not in shared]
        overrides = " ".join(own or outcome.overrides) or "defaults"
        rows.append(Row(folder, outcome, overrides, _metrics(folder), _speed(folder)))
    return _ranked([row for row in rows if finished(row)]) + [row for row in rows if not finished(row)]


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Finished jobs with rank and group; those without a value rank behind all others of the first group."""
    groups: dict[str, list[Row]] = {}
    for row in sorted((row for row in rows if row.value > float("-inf")), key=lambda row: -row.value):
        groups.setdefault(key_of(row.measured), []).append(row)
    ordered = sorted(groups.values(), key=len, reverse=True) or [[]]
    ordered[0] += [row for row in rows if row.value == float("-inf")]
    letters = group_letters(len(ordered))
    return [replace(row, rank=rank, group=letter) for letter, group in zip(letters, ordered, strict=True)
            for rank, row in enumerate(group, start=1)]  # fmt: skip


def common_overrides(lines: Sequence[Sequence[str]]) -> list[str]:
    """Overrides that all command lines of several share; none of a single one."""
    if len(lines) < 2:
        return []
    return [override for override in lines[0] if all(override in line for line in lines)]


def as_csv(rows: Sequence[Row]) -> str:
    out = io.StringIO(newline="")
    table = CsvWriter(out)
    table.writerow(["rank", "group", "job", "state", "words", "value", "split", *METRICS, "seconds",
                    "images_per_second", "parameters", "reason", "folder"])  # fmt: skip
    for row in rows:
        done = row.outcome
        cells = [row.rank, row.group, done.number, done.state, row.overrides, done.value, row.split,
                 *(row.metrics.get(name) for name in METRICS), done.seconds, _round(row.speed), done.parameters,
                 done.reason, row.folder]  # fmt: skip
        table.writerow(cells)
    return out.getvalue()


def as_markdown(rows: Sequence[Row], shared: str) -> str:
    """A table of what finished, and a list of what did not, with the reasons."""
    done = [row for row in rows if finished(row)]
    shown = [name for name in METRICS if "/" not in name or any(name in row.metrics for row in done)]
    header = ["", "words", "split", *(METRICS[name] for name in shown), "seconds", "images/s", "parameters", "job"]
    lines = [header]
    for row in done:
        metrics = [number(row.metrics.get(name), 0 if name == "epoch" else 4) for name in shown]
        lines.append([f"{row.group}{row.rank}", f"`{row.name}`", row.split, *metrics, number(row.outcome.seconds, 0),
                      number(row.speed, 1), millions(row.outcome.parameters), row.folder.name])  # fmt: skip
    text = [f"{note[0].upper()}{note[1:]}.", ""] if (note := warning(rows)) else []
    text += [f"All with `{shared}`.", ""] if shared else []
    text += _table(lines, right=range(3, len(header) - 1)) if len(lines) > 1 else ["No job finished."]
    if others := [row for row in rows if not finished(row)]:
        text.append("")
        text += [f"- {row.outcome.state}: `{row.name}`: {row.outcome.reason} ({row.folder.name})" for row in others]
    return "\n".join(text) + "\n"


def _table(lines: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """Markdown that is readable as text: cells padded to columns."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*cells, strict=True)]
    padded = [[f"{cell:{'>' if at in right else '<'}{widths[at]}}" for at, cell in enumerate(line)] for line in cells]
    rule = ["-" * (width - 1) + (":" if at in right else "-") for at, width in enumerate(widths)]
    return [f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:])]


def _metrics(folder: Path) -> dict[str, Any]:
    metrics = read_metrics(folder)
    if wrong := wrong_number(metrics):
        log.warning("%s: its metrics.json is damaged, %s is no number", folder.name, wrong)
        return {}
    return metrics


def _speed(folder: Path) -> float | None:
    """Mean over the epochs; without the first one, in which MXNet chooses its kernels, where there are others."""
    file = folder / "metrics.csv"
    if not file.is_file():
        return None
    try:
        speeds = [float(row[SPEED]) for row in read_table(file)[1] if row.get(SPEED)]
    except (UserError, ValueError, OSError) as error:
        log.warning("%s: its speed is not known (%s)", folder.name, error)
        return None
    speeds = [speed for speed in speeds[1:] or speeds if math.isfinite(speed)]
    return sum(speeds) / len(speeds) if speeds else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
