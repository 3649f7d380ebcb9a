"""What was measured, as a table, CSV and an image."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssd.benchmark.grid import Measured
from ssd.utils.csv_cells import CsvWriter
from ssd.utils.text_table import text_table

PERCENTILES = (50, 90, 99)
COLUMNS = ("backbone", "data_shape", "format", "threads", "batch", "images_per_second",
           *(f"p{share}_ms" for share in PERCENTILES), "calls", "memory_mb", "error")  # fmt: skip
LEFT = 3  # of them are names


def row_of(item: Measured) -> dict[str, Any]:
    """The numbers of a cell by COLUMNS, None where there is none.

    images_per_second: batch / median latency. p50_ms, …: percentiles of the latency of a batch, in milliseconds.
    memory_mb: most that the process held, which measures the batches of a network from the smallest on.
    """
    cell = item.cell
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"backbone": cell.network.backbone, "data_shape": cell.network.data_shape, "format": cell.format}
    row |= {"threads": cell.threads, "batch": cell.batch, "error": item.error or None}
    if item.seconds:
        milliseconds = np.percentile(item.seconds, PERCENTILES) * 1000
        row |= {f"p{share}_ms": float(value) for share, value in zip(PERCENTILES, milliseconds, strict=True)}
        row |= {"images_per_second": cell.batch * 1000 / float(milliseconds[0])}
        row |= {"calls": len(item.seconds), "memory_mb": item.memory_mb}
    return row


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = CsvWriter(text)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(_cell(row[name]) for name in COLUMNS)
    return text.getvalue()


def to_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of text; what failed is listed below."""
    shown = [name for name in COLUMNS if name != "error"]
    lines = text_table(shown, [[_cell(row[name]) or "-" for name in shown] for row in rows], LEFT)
    for row in rows:
        if row["error"]:
            lines.append(f"failed: {name_of(row)} batch {row['batch']}: {row['error']}")
    return lines


def name_of(row: dict[str, Any]) -> str:
    """A line of the image: everything but the batch."""
    threads = "" if row["threads"] is None else f" {row['threads']} threads"
    return f"{row['backbone']} {row['data_shape']} {row['format']}{threads}"


def to_png(rows: Sequence[dict[str, Any]]) -> bytes:
    """Images per second over the batch, a line for each network, form and number of threads."""
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for row in rows:
        if row["images_per_second"] is not None:
            slow = row["batch"] * 1000 / row["p90_ms"]
            lines.setdefault(name_of(row), []).append((row["batch"], row["images_per_second"], slow))
    for name, points in lines.items():
        batches, speeds, slow_ones = zip(*sorted(points), strict=True)
        (line,) = axes.plot(batches, speeds, marker="o", label=name)
        axes.fill_between(batches, slow_ones, speeds, color=line.get_color(), alpha=0.15, linewidth=0)
    ticks = sorted({row["batch"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("batch")
    axes.set_ylabel("images per second (median; shade: to the 90th percentile)")
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize="small")
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
