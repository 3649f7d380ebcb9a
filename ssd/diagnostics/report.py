"""check.json: the findings of the dataset check, as plain numbers; the page and the tables are made of nothing else."""

from typing import Any

import numpy as np

from ssd.config.parts import NetworkConfig
from ssd.data.inspection.problems import ERROR, WARNING
from ssd.diagnostics.examine import Examination
from ssd.diagnostics.findings import Finding
from ssd.diagnostics.statistics import (
    RATIO_EDGES,
    SIDE_EDGES,
    Boxes,
    Match,
    anchor_table,
    histogram,
    join,
    match,
    on_input,
)
from ssd.symbol.anchors import anchor_grids

VERSION = 1  # of the file's structure
SPLIT_ROWS = {  # title -> key of a split in the report; details are indented
    "images": "images",
    "  without objects": "images_without_objects",
    "  without a label file": "images_without_label_file",
    "  that repeat another": "repeated_images",
    "labels without an image": "orphan_labels",
    "boxes": "boxes",
    "  difficult": "difficult",
}
FEW_MATCHED = 0.9  # share of matched boxes below which other anchors are advised


def make_report(network: NetworkConfig, found: Examination, dataset: str, augment: str) -> dict[str, Any]:
    """The contents of check.json; boxes of the training split against the anchors, of all splits if there is none.
    dataset, augment: their names.

    Adds the finding that too few boxes meet an anchor. Errors: UserError of a head that does not fit its backbone.
    """
    boxes = found.boxes["train"] if len(found.boxes.get("train", ())) else join(list(found.boxes.values()))
    height, width = network.input.shape
    grids = anchor_grids(network)
    boxes = on_input(boxes, network.input)
    matched = match(grids, boxes, network.matching.overlap)
    if matched.share < FEW_MATCHED:
        what = f"{matched.share:.1%} of {len(boxes)} boxes have an anchor with IoU {matched.overlap:g} or more"
        found.findings.add(Finding("anchors", WARNING, "train", "", None, what))
    errors, warnings = found.findings.count(ERROR), found.findings.count(WARNING)
    return {
        "version": VERSION,
        "safe": errors == 0,
        "errors": errors,
        "warnings": warnings,
        "summary": summary(found),
        "dataset": dataset,
        "backbone": network.backbone.name,
        "input": [width, height],
        "augment": augment,
        "classes": list(found.classes),
        "splits": found.counts,
        "shared": found.shared,
        "anchors": anchor_table(grids, matched, width, height),
        "histograms": _histograms(boxes, matched, width, height),
        "findings": found.findings.to_json(),
    }


def passed_over(report: dict[str, Any]) -> list[str]:
    """A line for every reason for which files of a split were not used, and one for splits that share images."""
    lines = [
        f"{split}: passed over {number} {reason}"
        for split, counted in report["splits"].items()
        for reason, number in counted["passed_over"].items()
    ]
    return [*lines, *report["shared"]]


def summary(found: Examination) -> str:
    """One line: "3 errors (2 unreadable_image, 1 leak), 1 warning (1 small)"."""
    parts = []
    for severity in (ERROR, WARNING):
        kinds = [f"{number} {kind}" for kind, of, number in found.findings.kinds() if of == severity]
        number = found.findings.count(severity)
        noun = severity if number == 1 else f"{severity}s"
        parts.append(f"{number} {noun}" + (f" ({', '.join(kinds)})" if kinds else ""))
    return ", ".join(parts)


def _histograms(boxes: Boxes, matched: Match, width: int, height: int) -> dict[str, Any]:
    shapes = boxes.shapes(width, height)
    groups = {
        "matched": matched.matched,
        "forced": matched.forced,
        "unmatched": ~matched.matched & ~matched.forced,
    }
    ratio = shapes[:, 0] / np.maximum(shapes[:, 1], 1e-9)
    return {
        "side": histogram(np.sqrt(shapes.prod(axis=1)), SIDE_EDGES, groups),
        "ratio": histogram(ratio, RATIO_EDGES, groups),
    }
