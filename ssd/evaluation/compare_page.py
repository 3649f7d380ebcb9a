"""compare.html: several runs side by side."""

from collections.abc import Sequence

import numpy as np

from ssd.evaluation.comparison import (
    FOOTNOTE,
    RECALL,
    Comparison,
    Run,
    differing,
    folded,
    plain,
    result_rows,
    unchanged,
)
from ssd.report.html import Column, number, page, section, table, text
from ssd.report.svg import Axis, Line, color, line_chart
from ssd.runs.results import HEADLINE

OVER_EPOCHS = {"val/map_11pt": "mAP, 11-point, on val", "val/map_area": "mAP, area, on val"}
LOSS = "train/loss"
NOT_BEST = ("checkpoint", "epoch", "step")  # rows of which no value is the best
LONGEST = 60  # characters of a value that is shown; all of it appears when pointed at


def compare_page(found: Comparison) -> bytes:
    """The page as bytes; the runs in their order, each with its number and in one color throughout."""
    runs, colors = found.runs, [color(index) for index in range(len(found.runs))]
    first, *others = found.ranking.notes
    grade = "bad" if found.ranking.split is None else "soft"
    body = [f'<p class="{grade}"><b>{text(first[:1].upper() + first[1:])}.</b></p>']
    body += [f'<p class="bad">{text(note[:1].upper() + note[1:])}.</p>' for note in others]
    body.append(_legend(found, colors))
    body.append(section("Results", "In bold the best of those that were measured alike.", _results(found)))
    body.append(section("What differs", "Configuration keys in which the runs differ. Where backbone, data shape or "
                        "dataset differ, the keys that follow from that are left out; compare.csv has every value.",
                        _keys(runs)))  # fmt: skip
    groups = found.alike("val")
    for name, label in OVER_EPOCHS.items():
        body += [_over_epochs(runs, colors, group, name, label + _of(group, groups)) for group in groups]
    body.append(_over_epochs(runs, colors, range(len(runs)), LOSS, "Training loss"))
    for split in dict.fromkeys(run.split for run in runs):
        groups = found.alike(split)
        body += [_curves(runs, colors, group, split, _of(group, groups)) for group in groups]
    datasets = sorted({str(run.config.get("dataset.name")) for run in runs})
    return page(f"{len(runs)} runs compared", text(" · ".join(datasets)), [part for part in body if part])


def _legend(found: Comparison, colors: Sequence[str]) -> str:
    grouped = len(found.ranking.groups) > 1
    columns = [Column(""), *([Column("group")] if grouped else [])]
    columns += [Column(name, text=True) for name in ("run", "splits", "what became of it")]
    rows = []
    for index, (run, letter) in enumerate(zip(found.runs, found.letters, strict=True)):
        mark = [_mark(index, colors[index]), *([letter] if grouped else [])]
        rows.append([*mark, text(run.name), text(", ".join(run.splits)), text(run.status or "finished")])
    left = "".join(f'<p class="note">Left out: {text(name)}: {text(reason)}.</p>' for name, reason in found.left_out)
    return section("Runs", "", table(columns, rows), left)


def _mark(index: int, tint: str) -> str:
    return f'<span style="color:{tint}">■</span> {index + 1}'


def _head(runs: Sequence[Run]) -> list[Column]:
    return [Column("", text=True), *(Column(str(index + 1)) for index in range(len(runs)))]


def _results(found: Comparison) -> str:
    rows, starred = [], False
    for label, values in result_rows(found.runs).items():
        bold = set()
        for group in [] if label in NOT_BEST else found.alike(label.partition(" ")[0]):
            numbers = [float(values[place]) for place in group if values[place]]
            bold |= {
                place for place in group if len(numbers) > 1 and values[place] and float(values[place]) == max(numbers)
            }
        starred |= label.endswith("*")
        cells = [f"<b>{text(value)}</b>" if place in bold else text(value) for place, value in enumerate(values)]
        rows.append([text(label), *cells])
    note = f'<p class="note">{text(FOOTNOTE)}.</p>' if starred else ""
    return table(_head(found.runs), rows) + note


def _keys(runs: Sequence[Run]) -> str:
    different = differing(runs)
    equal = ", ".join(unchanged(runs))
    same = f'<p class="note">The same in all: {text(equal)}.</p>' if equal else ""
    if not different:
        return f'<p class="note">Nothing: all runs have the same configuration.</p>{same}'
    rows = []
    for label, values in folded(different).items():
        whole = [plain(value) for value in different[label]] if label in different else values
        rows.append([text(label), *(_value(*pair) for pair in zip(values, whole, strict=True))])
    return table(_head(runs), rows) + same


def _value(shown: str, whole: str) -> str:
    """shown, and the whole value when pointed at."""
    short = shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
    return text(shown) if short == whole else f'<span title="{text(whole)}">{text(short)}</span>'


def _of(group: Sequence[int], groups: Sequence[Sequence[int]]) -> str:
    """Which runs a chart is of, where there are others that were measured otherwise."""
    return f", runs {', '.join(str(place + 1) for place in group)}" if len(groups) > 1 else ""


def _curves(runs: Sequence[Run], colors: Sequence[str], group: Sequence[int], split: str, of: str) -> str:
    """Of the runs of a group whose headline is of this split."""
    lines = []
    for place in group:
        run = runs[place]
        if run.precision is not None and run.split == split:
            value = number(run.metric(split, HEADLINE))
            lines.append(Line(f"{place + 1} {run.name}", RECALL, run.precision, colors[place], value))
    if not lines:
        return ""
    note = "Mean over the classes of the best precision at each recall or beyond."
    chart = line_chart(lines, Axis("recall", 0, 1), Axis("precision", 0, 1))
    return section(f"Precision and recall on {split}{of}", note, chart)


def _over_epochs(runs: Sequence[Run], colors: Sequence[str], group: Sequence[int], name: str, label: str) -> str:
    lines = []
    for place in group:
        run = runs[place]
        if name in run.epochs and "epoch" in run.epochs:
            known = np.isfinite(run.epochs[name])
            x, y = run.epochs["epoch"][known], run.epochs[name][known]
            note = number(float(y[-1])) if len(y) else ""
            lines.append(Line(f"{place + 1} {run.name}", x, y, colors[place], note))
    if not any(len(line.x) for line in lines):
        return ""
    x_axis = Axis.around("epoch", [line.x for line in lines], zero=False)
    y_axis = Axis.around(label.partition(",")[0], [line.y for line in lines], zero=True)
    return section(label, "Over epochs, with the last value.", line_chart(lines, x_axis, y_axis))
