"""check.html: the report as one file that needs no other, and no network."""

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import cv2
import numpy as np

from ssd.data.images import encode
from ssd.diagnostics.findings import shortened
from ssd.diagnostics.report import SPLIT_ROWS, passed_over
from ssd.report.histograms import Axis, bars

JPEG_QUALITY = 88
MOST_ROWS = 200  # findings of a kind on the page; check.json has more
GROUPS = {"matched": "matched", "forced": "only by the best-anchor rule", "unmatched": "no anchor at all"}
SIDE_TICKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
RATIO_TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8)

STYLE = """
:root { color-scheme: light }
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1e21; background: #f5f6f7; margin: 0 }
main { max-width: 1320px; margin: 0 auto; padding: 24px }
section { background: #fff; border: 1px solid #dfe2e5; border-radius: 8px; padding: 16px 20px; margin: 16px 0 }
h1 { font-size: 24px; margin: 0 0 4px } h2 { font-size: 18px; margin: 0 0 8px }
p { margin: 6px 0 } .note { color: #5a6067; font-size: 13.5px }
.verdict { display: inline-block; padding: 3px 12px; border-radius: 14px; color: #fff; font-weight: 600 }
.safe { background: #1a7f37 } .unsafe { background: #b42318 }
.error { color: #b42318; font-weight: 600 } .warning { color: #8a5a00; font-weight: 600 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: 3px 12px 3px 0; text-align: right; border-bottom: 1px solid #eceef0; vertical-align: top }
th { font-weight: 600; border-bottom-color: #b9bec4 } .text { text-align: left; overflow-wrap: break-word }
tr.total td { border-top: 1px solid #b9bec4; font-weight: 600 }
.scroll { overflow-x: auto }
.side { display: flex; flex-wrap: wrap; gap: 24px } .side > * { flex: 1 1 480px; min-width: 0 }
details { margin: 8px 0 } summary { cursor: pointer } details table { margin: 8px 0 8px 18px; font-size: 13.5px }
svg { width: 100%; height: auto } svg text { font: 12.5px system-ui, sans-serif; fill: #444 } .grid { stroke: #e3e6e8 }
img { max-width: 100%; height: auto; display: block; margin: 8px 0 }
.bar { display: inline-block; height: 9px; background: #0072b2; border-radius: 2px; vertical-align: middle }
"""


def page(report: dict[str, Any], pictures: dict[str, np.ndarray]) -> str:
    """The HTML of a report (see ssd.diagnostics.report); pictures: HxWx3 uint8 RGB under their titles, at its end."""
    name = escape(f"{report['dataset']}: data check")
    parts = [_verdict(report), _findings(report), _splits(report), _anchors(report), _histograms(report)]
    parts += [_section(title, _image(title, image)) for title, image in pictures.items()]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _section(title: str, *body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(body)}</section>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int], total: int = 0) -> str:
    """rows hold HTML; text: columns that are no numbers; total: how many of the last rows are sums."""

    def line(tag: str, cells: Sequence[str], style: str = "") -> str:
        kinds = [' class="text"' if place in text else "" for place in range(len(cells))]
        inner = "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
        return f"<tr{style}>{inner}</tr>"

    body = [line("td", row, ' class="total"' if len(rows) - place <= total else "") for place, row in enumerate(rows)]
    return f'<div class="scroll"><table>{line("th", head)}{"".join(body)}</table></div>'


def _verdict(report: dict[str, Any]) -> str:
    verdict = "safe to train" if report["safe"] else "not safe to train"
    network = f"{report['backbone']} at {'x'.join(map(str, report['input']))}, augment={report['augment']}"
    return (
        f"<h1>{escape(report['dataset'])}</h1>"
        f'<p><span class="verdict {"safe" if report["safe"] else "unsafe"}">{verdict}</span> '
        f"&nbsp;{escape(report['summary'])}</p>" + _note(f"for the network {network}")
    )


def _findings(report: dict[str, Any]) -> str:
    findings = report["findings"]
    root = findings["root"]
    blocks = []
    for row in findings["counts"]:
        same = [f for f in findings["list"] if (f["kind"], f["severity"]) == (row["kind"], row["severity"])]
        rows = [_finding(finding, root) for finding in same[:MOST_ROWS]]
        rest = row["count"] - len(rows)
        more = _note(f"and {rest} more, see check.json") if rest else ""
        blocks.append(
            f'<details{" open" if row["count"] <= 12 else ""}><summary><span class="{row["severity"]}">'
            f"{row['severity']}</span> {escape(row['title'])}: <b>{row['count']}</b> "
            f'<span class="note">({escape(row["advice"])})</span></summary>'
            f"{_table(['split', 'file', 'object', 'what'], rows, (0, 1, 3))}{more}</details>"
        )
    where = _note(f"files are below {root}") if root else ""
    return _section("Findings", where if blocks else _note("nothing was found"), *blocks)


def _finding(finding: dict[str, Any], root: str) -> tuple[str, str, str, str]:
    file, what = shortened(finding, root)
    number = "" if finding["object"] is None else str(finding["object"])
    return escape(finding["split"]), escape(file), number, escape(what)


def _splits(report: dict[str, Any]) -> str:
    splits = report["splits"]
    rows = [[escape(title.strip()), *(f"{split[key]}" for split in splits.values())]
            for title, key in SPLIT_ROWS.items()]  # fmt: skip
    classes = []
    for label, name in enumerate(report["classes"]):
        cells = [str(label), escape(name)]
        for split in splits.values():
            number, most = split["classes"][name]["boxes"], max(1, *(of["boxes"] for of in split["classes"].values()))
            bar = f'<span class="bar" style="width:{100 * number / most:.1f}px"></span>'
            cells += [str(number), str(split["classes"][name]["images"]), bar]
        classes.append(cells)
    head = ["", "class"]
    text = [1]
    for split in splits:
        head += [f"{escape(split)}: boxes", "images", ""]
        text.append(len(head) - 1)
    return _section(
        "Counts", _table(["", *map(escape, splits)], rows, (0,)), *map(_note, passed_over(report)), "<p></p>",
        _table(head, classes, text),
    )  # fmt: skip


def _anchors(report: dict[str, Any]) -> str:
    found = report["anchors"]
    rows = []
    for number, layer in enumerate(found["layers"], start=1):
        shapes = ", ".join(f"{width:.0f}x{height:.0f}" for width, height in layer["shapes"])
        cells, step = (
            f"{layer['columns']}x{layer['rows']}",
            "x".join(f"{side:g}" for side in dict.fromkeys(layer["step"])),
        )
        counts = [str(layer[key]) for key in ("anchors", "boxes", "best")]
        rows.append([str(number), escape(layer["name"]), cells, step, shapes, *counts])
    total = ["", "all layers", "", "", "", str(found["anchors"]), str(found["matched"]), str(found["matched"])]
    head = ["", "layer", "cells", "step", "anchors of a cell, pixels", "anchors", "boxes matched", "best here"]
    share = f"{found['matched']} of {found['boxes']} boxes of train ({found['share']:.1%}) meet an anchor with IoU "
    share += f"{found['overlap']:g} or more; {found['forced']} get only the one anchor that overlaps them most; "
    share += f"{found['unmatched']} get none."
    return _section(
        "Boxes and anchors", f"<p>{escape(share)}</p>", _table(head, [*rows, total], (1, 4), total=1),
        _note("A box counts in every layer that has an anchor for it, and as best where the IoU is highest. Boxes as "
              "annotated: augmentation makes them larger (crops) and smaller (pads)."),
    )  # fmt: skip


def _histograms(report: dict[str, Any]) -> str:
    marks: dict[str, list[float]] = {}
    ratios: list[float] = []
    for number, layer in enumerate(report["anchors"]["layers"], start=1):
        marks[f"anchors of layer {number}" if number == 1 else str(number)] = [
            (width * height) ** 0.5 for width, height in layer["shapes"]
        ]
        ratios += [width / height for width, height in layer["shapes"] if height]
    side, ratio = report["histograms"]["side"], report["histograms"]["ratio"]
    side_axis = Axis("side of the box at the network's input: √(width × height), pixels", SIDE_TICKS)
    side_chart = bars(side["edges"], _named(side), side_axis, marks)
    ratio_axis = Axis("width / height at the network's input", RATIO_TICKS)
    different = sorted({round(value, 2) for value in ratios})
    ratio_chart = bars(ratio["edges"], _named(ratio), ratio_axis, {"anchors": different})
    return _section("Sizes and shapes of the boxes of train",
                    f'<div class="side"><div>{side_chart}</div><div>{ratio_chart}</div></div>')  # fmt: skip


def _named(histogram: dict[str, Any]) -> dict[str, Sequence[int]]:
    return {title: histogram[key] for key, title in GROUPS.items()}


def _image(title: str, image: np.ndarray) -> str:
    data = encode(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return f'<img alt="{escape(title)}" width="{image.shape[1]}" src="{source}">'
