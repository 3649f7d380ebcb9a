"""The report as tables for a terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from ssd.diagnostics.findings import shortened
from ssd.diagnostics.report import SPLIT_ROWS, passed_over
from ssd.utils.text_table import rendered

MOST_CLASSES = 30
EXAMPLES = 3  # findings of a kind that are shown


def tables(report: dict[str, Any], width: int) -> list[str]:
    """Lines of text at most `width` characters long."""
    return rendered([_splits(report), _anchors(report), _findings(report), *passed_over(report)], width)


def _table(title: str, columns: Sequence[str], left: int) -> Table:
    """left: how many columns are text; the others are numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, title_style="")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < left else "right", overflow="fold")
    return table


def _splits(report: dict[str, Any]) -> Table:
    splits = report["splits"]
    table = _table("", ["", *splits], 1)
    for title, key in SPLIT_ROWS.items():
        table.add_row(title, *(str(split[key]) for split in splits.values()))
    order = report["classes"][:MOST_CLASSES]
    for name in order:
        table.add_row(Text(f"  {name}"), *(str(split["classes"][name]["boxes"]) for split in splits.values()))
    if len(report["classes"]) > len(order):
        table.add_row(f"  … {len(report['classes']) - len(order)} more classes")
    return table


def _anchors(report: dict[str, Any]) -> Table:
    found = report["anchors"]
    title = f"boxes of train with an anchor at IoU {found['overlap']:g} or more, {report['backbone']} at "
    title += "x".join(map(str, report["input"]))
    table = _table(title, ["layer", "cells", "step", "anchors", "boxes", "best here"], 1)
    for layer in found["layers"]:
        cells, step = f"{layer['columns']}x{layer['rows']}", f"{layer['step'][0]:g}"
        table.add_row(layer["name"], cells, step, str(layer["anchors"]), str(layer["boxes"]), str(layer["best"]))
    share = f"{found['share']:.1%}" if found["boxes"] else "-"
    table.add_row("all", "", "", str(found["anchors"]), f"{found['matched']}/{found['boxes']}", share)
    table.add_row("only by the best-anchor rule", "", "", "", str(found["forced"]), "")
    table.add_row("no anchor at all", "", "", "", str(found["unmatched"]), "")
    return table


def _findings(report: dict[str, Any]) -> Table:
    root = report["findings"]["root"]
    title = f"files are below {root}" if root else ""
    table = _table(title, ["", "number", "what, and the first of them"], 1)
    table.columns[2].justify = "left"
    for row in report["findings"]["counts"]:
        same = [f for f in report["findings"]["list"] if (f["kind"], f["severity"]) == (row["kind"], row["severity"])]
        lines = [f"{row['title']}: {row['advice']}", *(f"  {one_line(finding, root)}" for finding in same[:EXAMPLES])]
        table.add_row(row["severity"], str(row["count"]), Text("\n".join(lines)))
    if not report["findings"]["counts"]:
        table.add_row("", "0", "nothing was found")
    return table


def one_line(finding: dict[str, Any], root: str) -> str:
    file, what = shortened(finding, root)
    place = file + (f" object {finding['object']}" if finding["object"] else "")
    return f"{place}: {what}" if place else what
