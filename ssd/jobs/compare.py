"""job=compare: several runs side by side, as a table, compare.csv and compare.html."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssd.evaluation.comparison import Run, differing, find_runs, metric_names
from ssd.evaluation.report.compare import compare_page
from ssd.files import write_atomically

log = logging.getLogger(__name__)

WIDEST = 150  # characters of the table on the console; what does not fit is in the files


def run(cfg: DictConfig, folder: Path) -> None:
    """Compares the runs cfg.job.runs. Errors: UserError when there are not at least two with results."""
    job: Any = OmegaConf.to_container(cfg.job, resolve=True)
    runs = find_runs(job["runs"])
    header, rows = table_of(runs)
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    write_atomically(folder / "compare.csv", out.getvalue().encode())
    write_atomically(folder / "compare.html", compare_page(runs))
    for line in aligned([header, *rows], WIDEST):
        log.info("%s", line)
    log.info("%-12s %s", "table", folder / "compare.csv")
    log.info("%-12s %s", "page", folder / "compare.html")


def table_of(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Header and one row per run: its name, its headline metrics, and the config keys that differ."""
    names, different = metric_names(runs), differing(runs)
    rows = []
    for index, item in enumerate(runs):
        told = [_word(values[index]) for values in different.values()]
        rows.append([item.name, *(_number(item.metrics.get(name)) for name in names), *told])
    return ["run", *names, *different], rows


def aligned(rows: Sequence[Sequence[str]], widest: int) -> list[str]:
    """Rows as lines of text in columns; columns that would make lines longer than `widest` are left out."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    shown = [index for index in range(len(widths)) if sum(widths[: index + 1]) + 2 * index <= widest] or [0]
    lines = [
        "  ".join(f"{row[index]:{'<' if index == 0 else '>'}{widths[index]}}" for index in shown).rstrip()
        for row in rows
    ]
    if left := [rows[0][index] for index in range(len(widths)) if index not in shown]:
        lines.append(f"(not shown: {', '.join(left)})")
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _word(value: Any) -> str:
    return "null" if value is None else str(value)
