"""The report: structure of check.json, and a page that needs nothing but itself."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from ssd.config.compose import compose
from ssd.config.parts import network_config
from ssd.data.inspection.gate import Gate
from ssd.diagnostics.boxes import Input
from ssd.diagnostics.examine import examine
from ssd.diagnostics.page import check_page
from ssd.diagnostics.report import make_report
from ssd.diagnostics.table import tables

VOID = {"meta", "img", "br"}
NETWORK = network_config(compose([]))


@pytest.fixture
def report(folder) -> dict:
    folder.objects("t0", [("dog", 11, 11, 50, 40), ("<b>&", 61, 31, 80, 50)])
    folder.objects("t1", [("dog", 11, 11, 50, 40), ("cat", 61, 31, 180, 50)])
    dataset = folder.dataset(classes=["cat", "dog", "<i>elk</i>"])
    return make_report(
        NETWORK,
        examine(Gate(lambda: dataset, "refuse"), ("train", "val"), Input(128, 128, 4), 100),
        "voc",
        "mild",
    )


def test_structure_of_check_json(report, folder):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert {key: value for key, value in report.items() if not isinstance(value, dict)} == {
        "version": 1,
        "safe": False,
        "errors": 2,
        "warnings": 1,
        "summary": "2 errors (1 class, 1 out_of_range), 1 warning (1 classes)",
        "dataset": "voc",
        "backbone": "small",
        "input": [128, 128],
        "augment": "mild",
        "classes": ["cat", "dog", "<i>elk</i>"],
        "shared": [],
    }
    assert report["splits"]["train"] == {
        "images": 4,
        "images_without_objects": 0,
        "boxes": 7,
        "difficult": 0,
        "classes": {
            "cat": {"boxes": 3, "images": 3},
            "dog": {"boxes": 4, "images": 4},
            "<i>elk</i>": {"boxes": 0, "images": 0},
        },
        "images_without_label_file": 0,
        "orphan_labels": 0,
        "repeated_images": 0,
        "passed_over": {},
    }
    assert report["findings"]["list"][1] == {
        "kind": "out_of_range",
        "severity": "error",
        "split": "train",
        "file": str(folder.xml("t1")),
        "object": 2,
        "what": "box (60, 30, 180, 50), leaves the image of 96x64; "
        "dataset.out_of_range=clip cuts such boxes, dataset.out_of_range=drop leaves them out",
    }
    assert [(row["kind"], row["severity"], row["count"]) for row in report["findings"]["counts"]] == [
        ("class", "error", 1),
        ("out_of_range", "error", 1),
        ("classes", "warning", 1),
    ]
    assert set(report["anchors"]) == {
        "overlap", "layers", "anchors", "boxes", "matched", "forced", "unmatched", "share", "mean_iou",
    }  # fmt: skip
    assert report["anchors"]["anchors"] == 1600
    for chart in report["histograms"].values():
        assert set(chart) == {"edges", "matched", "forced", "unmatched"}
        assert sum(sum(chart[name]) for name in ("matched", "forced", "unmatched")) == report["anchors"]["boxes"] == 7


class Checker(HTMLParser):
    """Remembers every attribute that could load something, and whether tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(report):
    text = check_page(report, {"a <title>": np.zeros((20, 30, 3), np.uint8)}).decode()
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    assert checker.references
    assert all(value.startswith("data:image/jpeg;base64,") for value in checker.references)
    assert not checker.tags & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"https?:|url\(|@import", text)


def test_names_of_the_dataset_are_text_not_markup(report):
    text = check_page(report, {"a <title>": np.zeros((20, 30, 3), np.uint8)}).decode()
    assert "&lt;i&gt;elk&lt;/i&gt;" in text
    assert "<i>elk" not in text
    assert "&lt;b&gt;&amp;" in text
    assert "a &lt;title&gt;" in text


def test_tables_fit_the_terminal(report):
    for width in (60, 100):
        lines = tables(report, width)
        assert max(map(len, lines)) <= width
    assert "t1.xmlobject2" in "".join("".join(lines).split())  # wherever it was broken
    text = "\n".join(lines)
    for part in ("<i>elk</i>", "stage3_2_relu", "Boxes that leave their image", "1600"):
        assert part in text


def test_too_few_matched_boxes_are_a_warning(folder):
    for identifier in ("t0", "t1", "t2", "t3"):
        folder.objects(identifier, [("dog", 1, 1, 90, 8), ("cat", 61, 31, 80, 50)])
    report = make_report(
        NETWORK,
        examine(Gate(folder.dataset, "refuse"), ("train", "val"), Input(128, 128, 4), 100),
        "",
        "",
    )
    assert (report["safe"], report["warnings"]) == (True, 1)
    assert report["findings"]["list"][0]["what"] == "50.0% of 8 boxes have an anchor with IoU 0.5 or more"
    assert report["anchors"]["forced"] == 4


def test_a_page_without_findings_and_without_train(folder):
    report = make_report(NETWORK, examine(Gate(folder.dataset, "refuse"), ("val",), Input(128, 128, 4), 100), "", "")
    assert report["anchors"]["boxes"] == 4
    assert "nothing was found" in check_page(report, {}).decode()
