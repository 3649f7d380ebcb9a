"""job=compare: several runs side by side, as a table, compare.csv and compare.html."""

import io
import logging
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssd.evaluation.compare_page import compare_page
from ssd.evaluation.comparison import (
    FOOTNOTE,
    METRICS,
    Comparison,
    differing,
    find_runs,
    folded,
    plain,
    result_rows,
    unchanged,
)
from ssd.runs.results import FINISHED
from ssd.utils.atomic_files import write_atomically
from ssd.utils.csv_cells import CsvWriter

log = logging.getLogger(__name__)

LABEL, CELL = 34, 22  # most characters of a row's name and of a value on the console; the files have all
KNOWN = ("split", "checkpoint", "epoch", "step")  # what the headline numbers of a run stand for


def run(cfg: DictConfig, folder: Path) -> None:
    """Compares the runs cfg.job.runs. Errors: UserError when there are not at least two with results."""
    job: Any = OmegaConf.to_container(cfg.job, resolve=True)
    found = find_runs(job["runs"])
    out = io.StringIO(newline="")
    CsvWriter(out).writerows(table_of(found))
    write_atomically(folder / "compare.csv", out.getvalue().encode(errors="surrogateescape"))
    write_atomically(folder / "compare.html", compare_page(found))
    for line in lines_of(found, shutil.get_terminal_size((80, 24)).columns):
        log.info("%s", line)
    log.info("%-12s %s", "table", folder / "compare.csv")
    log.info("%-12s %s", "page", folder / "compare.html")


def table_of(found: Comparison) -> list[list[str]]:
    """For programs: a header, and one row per run with its headline numbers, what they stand for, those of other splits
    as "test/map_11pt", and the values of all config keys that differ."""
    runs, different = found.runs, differing(found.runs)
    names = [name for name in METRICS if any(name in run.metrics for run in runs)]
    names += dict.fromkeys(f"{split}/{name}" for run in runs for split in run.splits for name in METRICS
                           if f"{split}/{name}" in run.metrics)  # fmt: skip
    rows = [["run", "group", "status", *KNOWN, *names, *different]]
    for index, (item, letter) in enumerate(zip(runs, found.letters, strict=True)):
        known = {"status": FINISHED, "split": item.split} | item.metrics
        cells = [_number(known.get(name)) for name in ("status", *KNOWN, *names)]
        rows.append([item.name, letter, *cells, *(plain(values[index]) for values in different.values())])
    return rows


def lines_of(found: Comparison, width: int) -> list[str]:
    """The comparison as lines of text, none longer than `width` but for names and notes: first what must be known, then
    the runs by number, then a row per number and per key that differs."""
    runs = found.runs
    lines = list(found.ranking.notes)
    for number, (item, letter) in enumerate(zip(runs, found.letters, strict=True), start=1):
        lines.append(f"{number:3}{letter and f' {letter}'}  {item.name}{item.status and f'  ({item.status})'}")
    lines += [f"left out: {name}: {reason}" for name, reason in found.left_out]
    results, keys = result_rows(runs), folded(differing(runs))
    if keys:
        keys = {"what differs:": [""] * len(runs), **keys}
    lines += ["", *_blocks({**results, **keys}, width)]
    if any(label.endswith("*") for label in results):
        lines.append(FOOTNOTE)
    if same := unchanged(runs):
        lines += textwrap.wrap(f"the same in all: {', '.join(same)}", width)
    return lines


def _blocks(rows: Mapping[str, Sequence[str]], width: int) -> list[str]:
    """A table of rows; as many columns side by side as fit, the others below."""
    labels = [_short(label, LABEL) for label in rows]
    cells = [[_short(value, CELL) for value in values] for values in rows.values()]
    first = max(map(len, labels), default=0)
    widths = [max(3, *(len(row[index]) for row in cells)) for index in range(len(cells[0]))]
    lines: list[str] = []
    start = 0
    while start < len(widths):
        stop = start + 1
        while stop < len(widths) and first + sum(size + 2 for size in widths[start : stop + 1]) <= width:
            stop += 1
        shown = range(start, stop)
        head = "  ".join([" " * first, *(f"{index + 1:>{widths[index]}}" for index in shown)])
        body = ["  ".join([f"{label:{first}}", *(f"{row[index]:>{widths[index]}}" for index in shown)])
                for label, row in zip(labels, cells, strict=True)]  # fmt: skip
        lines += [*([""] if lines else []), head, *(line.rstrip() for line in body)]
        start = stop
    return lines


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
