"""compare.html: several runs side by side."""

from collections.abc import Sequence

import numpy as np

from ssd.evaluation.comparison import RECALL, Run, differing, metric_names
from ssd.evaluation.report.charts import Axis, Line, colour, line_chart
from ssd.evaluation.report.page import Column, number, page, section, table, text

OVER_EPOCHS = {
    "val/map_11pt": "mAP, 11-point",
    "val/map_area": "mAP, area",
    "train/loss": "Training loss",
}


def compare_page(runs: Sequence[Run]) -> bytes:
    """The page as bytes; the runs in their order, each in one colour throughout."""
    colours = [colour(index) for index in range(len(runs))]
    datasets = sorted({str(run.config.get("dataset.name")) for run in runs})
    body = [section("Results", "Best mAP (11-point) first; the best of each column in bold.", _results(runs, colours))]
    if len(datasets) > 1:
        body.insert(0, f'<p class="bad">Measured on different data sets ({text(", ".join(datasets))}).</p>')
    body.append(section("What differs", "Configuration keys in which the runs differ. Where backbone, data shape or "
                        "data set differ, the keys that follow from that are left out.", _keys(runs)))  # fmt: skip
    body += [_over_epochs(runs, colours, name, label) for name, label in OVER_EPOCHS.items()]
    curves = [(run, run.precision, tint) for run, tint in zip(runs, colours, strict=True) if run.precision is not None]
    if curves:
        lines = [Line(run.name, RECALL, curve, tint, number(run.metric("map_11pt"))) for run, curve, tint in curves]
        note = "Mean over the classes of the best precision at each recall or beyond."
        chart = line_chart(lines, Axis("recall", 0, 1), Axis("precision", 0, 1))
        body.append(section("Precision and recall", note, chart))
    return page(f"{len(runs)} runs compared", text(" · ".join(datasets)), [part for part in body if part])


def _results(runs: Sequence[Run], colours: Sequence[str]) -> str:
    names = metric_names(runs)
    best = {name: np.nanmax([run.metric(name) for run in runs] + [-1.0]) for name in names}
    rows = []
    for run, tint in zip(runs, colours, strict=True):
        cells = [f'<span style="color:{tint}">■</span> {text(run.name)}']
        for name in names:
            value = number(run.metric(name), 0 if name == "epoch" else 4)
            cells.append(f"<b>{value}</b>" if name != "epoch" and run.metric(name) == best[name] else value)
        rows.append(cells)
    return table([Column("run", text=True), *(Column(name) for name in names)], rows)


def _keys(runs: Sequence[Run]) -> str:
    different = differing(runs)
    if not different:
        return '<p class="note">Nothing: all runs were told the same.</p>'
    columns = [Column("run", text=True), *(Column(key, text=True) for key in different)]
    rows = [[text(run.name), *(text(_said(values[index])) for values in different.values())]
            for index, run in enumerate(runs)]  # fmt: skip
    return table(columns, rows)


def _said(value: object) -> str:
    return "null" if value is None else str(value)


def _over_epochs(runs: Sequence[Run], colours: Sequence[str], name: str, label: str) -> str:
    lines = []
    for run, tint in zip(runs, colours, strict=True):
        if name in run.epochs and "epoch" in run.epochs:
            known = np.isfinite(run.epochs[name])
            x, y = run.epochs["epoch"][known], run.epochs[name][known]
            note = number(float(y[-1])) if len(y) else ""
            lines.append(Line(run.name, x, y, tint, note))
    if not any(len(line.x) for line in lines):
        return ""
    x_axis = Axis.around("epoch", [line.x for line in lines], zero=False)
    y_axis = Axis.around(label, [line.y for line in lines], zero=True)
    return section(label, "Over epochs, with the last value.", line_chart(lines, x_axis, y_axis))
