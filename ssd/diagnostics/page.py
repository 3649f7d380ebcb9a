"""check.html: the report as one file that needs no other, and no network."""

from collections.abc import Sequence
from html import escape
from typing import Any

import cv2
import numpy as np

from ssd.data.images import encode
from ssd.diagnostics.findings import shortened
from ssd.diagnostics.report import SPLIT_ROWS, passed_over
from ssd.report.html import Column, details, embedded, note, page, section, share_bar, table, text
from ssd.report.svg import LogAxis, histogram

JPEG_QUALITY = 88
MAX_ROWS = 200  # findings of a kind on the page; check.json has more
OPENED = 12  # findings of a kind that are shown without a click
GROUPS = {"matched": "matched", "forced": "only by the best-anchor rule", "unmatched": "no anchor at all"}
SIDE_TICKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
RATIO_TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8)
STYLES = {"error": "bad", "warning": "warn"}


def check_page(report: dict[str, Any], images: dict[str, np.ndarray]) -> bytes:
    """The HTML of a report (see ssd.diagnostics.report). images: HxWx3 uint8 RGB under their titles, at its end."""
    body = [_verdict(report), _findings(report), _splits(report), _anchors(report), _histograms(report)]
    body += [section(title, "", _image(title, image)) for title, image in images.items()]
    network = f"{report['backbone']} at {'x'.join(map(str, report['input']))}, augment={report['augment']}"
    return page(f"{report['dataset']}: dataset check", f"for the network {escape(network)}", body)


def _verdict(report: dict[str, Any]) -> str:
    verdict, style = ("safe to train", "good") if report["safe"] else ("not safe to train", "bad")
    return f'<p><span class="badge {style}">{verdict}</span>{escape(report["summary"])}</p>'


def _findings(report: dict[str, Any]) -> str:
    findings = report["findings"]
    root = findings["root"]
    columns = [Column("split", text=True), Column("file", text=True), Column("object"), Column("what", text=True)]
    blocks = []
    for row in findings["counts"]:
        same = [f for f in findings["list"] if (f["kind"], f["severity"]) == (row["kind"], row["severity"])]
        rows = [_finding(finding, root) for finding in same[:MAX_ROWS]]
        rest = row["count"] - len(rows)
        summary = (
            f'<span class="{STYLES[row["severity"]]}">{row["severity"]}</span> {escape(row["title"])}: '
            f'<b>{row["count"]}</b> <span class="note">({escape(row["advice"])})</span>'
        )
        more = note(f"and {rest} more, see check.json") if rest else ""
        blocks.append(details(summary, table(columns, rows), more, opened=row["count"] <= OPENED))
    if not blocks:
        return section("Findings", "nothing was found")
    return section("Findings", escape(f"files are below {root}") if root else "", *blocks)


def _finding(finding: dict[str, Any], root: str) -> tuple[str, str, str, str]:
    file, what = shortened(finding, root)
    number = "" if finding["object"] is None else str(finding["object"])
    return escape(finding["split"]), escape(file), number, escape(what)


def _splits(report: dict[str, Any]) -> str:
    splits = report["splits"]
    rows = [
        [escape(title.strip()), *(f"{split[key]}" for split in splits.values())] for title, key in SPLIT_ROWS.items()
    ]
    columns = [Column("label"), Column("class", text=True)]
    for split in splits:
        columns += [Column(f"{split}: boxes"), Column("images"), Column("", text=True)]
    classes = [[str(label), escape(name)] for label, name in enumerate(report["classes"])]
    for split in splits.values():
        most = max(1, *(of["boxes"] for of in split["classes"].values()))
        for cells, name in zip(classes, report["classes"], strict=True):
            of = split["classes"][name]
            cells += [str(of["boxes"]), str(of["images"]), share_bar(of["boxes"] / most)]
    counted = table([Column("", text=True), *map(Column, splits)], rows)
    return section("Counts", "", counted, *map(note, passed_over(report)), table(columns, classes))


def _anchors(report: dict[str, Any]) -> str:
    found = report["anchors"]
    rows = []
    for number, layer in enumerate(found["layers"], start=1):
        shapes = ", ".join(f"{width:.0f}x{height:.0f}" for width, height in layer["shapes"])
        step = "x".join(f"{side:g}" for side in dict.fromkeys(layer["step"]))
        counts = [str(layer[key]) for key in ("anchors", "boxes", "best")]
        rows.append([str(number), text(layer["name"]), f"{layer['columns']}x{layer['rows']}", step, shapes, *counts])
    rows.append(["", "all layers", "", "", "", str(found["anchors"]), str(found["matched"]), str(found["matched"])])
    columns = [
        Column("layer"), Column("name", text=True), Column("cells"), Column("step"),
        Column("anchors of a cell, pixels", text=True), Column("anchors"), Column("boxes matched"), Column("best here"),
    ]  # fmt: skip
    recall = (
        f"{found['matched']} of {found['boxes']} boxes of train ({found['share']:.1%}) match an anchor with IoU "
        f"{found['overlap']:g} or more; {found['forced']} get only the one anchor that overlaps them most; "
        f"{found['unmatched']} get none."
    )
    explanation = (
        "A box counts in every layer that has an anchor for it, and as best where the IoU is highest. Boxes as "
        "annotated: augmentation makes them larger (crops) and smaller (expansions)."
    )
    return section(
        "Boxes and anchors", "", f"<p>{escape(recall)}</p>", table(columns, rows, summary=True), note(explanation)
    )


def _histograms(report: dict[str, Any]) -> str:
    marks: dict[str, list[float]] = {}
    ratios: list[float] = []
    for number, layer in enumerate(report["anchors"]["layers"], start=1):
        marks[f"anchors of layer {number}" if number == 1 else str(number)] = [
            (width * height) ** 0.5 for width, height in layer["shapes"]
        ]
        ratios += [width / height for width, height in layer["shapes"] if height]
    side, ratio = report["histograms"]["side"], report["histograms"]["ratio"]
    side_axis = LogAxis("side of the box at the network input: √(width × height), pixels", SIDE_TICKS)
    ratio_axis = LogAxis("width / height at the network input", RATIO_TICKS)
    different = sorted({round(value, 2) for value in ratios})
    side_chart = histogram(side["edges"], _named(side), side_axis, marks)
    ratio_chart = histogram(ratio["edges"], _named(ratio), ratio_axis, {"anchors": different})
    charts = f'<div class="side"><div>{side_chart}</div><div>{ratio_chart}</div></div>'
    return section("Sizes and shapes of the boxes of train", "", charts)


def _named(counts: dict[str, Any]) -> dict[str, Sequence[int]]:
    return {title: counts[key] for key, title in GROUPS.items()}


def _image(title: str, image: np.ndarray) -> str:
    data = encode(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return embedded(data, title, (image.shape[1], image.shape[0]), "whole")
