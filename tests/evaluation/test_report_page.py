"""report.html and the files beside it."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import cv2

from ssd.evaluation.report_files import write_report
from ssd.evaluation.report_gallery import gallery
from ssd.evaluation.report_page import ReportMeta, report

VOID = {"meta", "img", "line", "br"}


def about(**changes) -> ReportMeta:
    values = {"title": "photos <1>", "split": "val", "same_images": None, "page": "report.html",
              "facts": {"model": "outputs/<x>"}, "iou": 0.5, "compat": None, "worst_images": 4,
              "category_ids": None}  # fmt: skip
    return ReportMeta(**{**values, **changes})


class Checker(HTMLParser):
    """Collects what is not closed in order, and every address."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attributes) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_startendtag(self, tag, attributes) -> None:
        pass

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def checked(page: bytes) -> str:
    checker = Checker()
    checker.feed(page.decode())
    assert checker.open == []
    assert all(address.startswith("data:image/jpeg;base64,") for address in checker.addresses)
    return page.decode()


def test_the_page_is_whole_and_loads_nothing(measurement):
    text = checked(report(*measurement, about()))
    assert "//" not in re.sub(r'src="[^"]*"', "", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme:dark" in text


def test_names_are_escaped_and_numbers_are_there(measurement):
    measured, analysis = measurement
    text = checked(report(measured, analysis, about()))
    assert "a &lt;b&gt;" in text
    assert "<b>a <b></b>" not in text
    assert "outputs/&lt;x&gt;" in text
    for value in (measured.voc["map_11pt"], measured.voc["map_area"], analysis.coco["AP50"], analysis.overall()[2]):
        assert f"<b>{value:.3f}</b>" in text
    for kind, mistakes in analysis.mistakes.items():
        assert f"<span>{kind}</span>" in text
        assert f"{100 * mistakes.cost:.1f} points, {mistakes.count:,} times" in text


def test_the_quirks_of_the_original_are_announced(measurement):
    assert "metric.compat=mxnet_ssd" not in checked(report(*measurement, about()))
    assert "metric.compat=mxnet_ssd" in checked(report(*measurement, about(compat="mxnet_ssd")))


def test_the_gallery_shows_the_worst_first(measurement):
    measured, analysis = measurement
    shown = re.findall(r"\d\. <b>(\d+\.png)</b>", gallery(measured, analysis, 3))
    assert shown == [measured.samples[index].path.name for index in analysis.worst_first()[:3]]
    assert checked(report(measured, analysis, about(worst_images=99))).count("<figure>") == 6
    assert "<figure>" not in checked(report(measured, analysis, about(worst_images=0)))


def test_files_beside_the_page(measurement, tmp_path):
    measured, analysis = measurement
    path = write_report(tmp_path, measured, analysis, about(category_ids=[1, 5, 90]))
    assert path == tmp_path / "report.html"
    assert {file.name for file in tmp_path.iterdir()} == {
        "report.html", "classes_val.csv", "curves_val.png", "curves_val.json", "coco_results_val.json",
        "coco_annotations_val.json", "voc",
    }  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "classes_val.csv").open()))
    assert [row["class"] for row in rows] == list(measured.classes)
    assert float(rows[0]["ap_area"]) == round(float(measured.voc["ap_area"][0]), 6)
    results = json.loads((tmp_path / "coco_results_val.json").read_text())
    assert len(results) == sum(map(len, measured.detections))
    assert {row["category_id"] for row in results} <= {1, 5, 90}
    # The samples have no ids, though their names are numbers: another file says which image is which.
    assert {row["image_id"] for row in results} <= set(range(1, 7))
    truth = json.loads((tmp_path / "coco_annotations_val.json").read_text())
    assert [(item["id"], item["file_name"]) for item in truth["images"]] == [(n + 1, f"{n:03d}.png") for n in range(6)]
    assert [item["id"] for item in truth["categories"]] == [1, 5, 90]
    assert len(truth["annotations"]) == sum(len(sample.boxes) for sample in measured.samples)
    lines = [line for file in (tmp_path / "voc").iterdir() for line in file.read_text().splitlines()]
    assert len(lines) == len(results)
    assert {line.split()[0] for line in lines} <= {sample.id for sample in measured.samples}
    assert cv2.imread(str(tmp_path / "curves_val.png")) is not None
    assert json.loads((tmp_path / "curves_val.json").read_text())


def test_ids_of_the_dataset_stand_in_the_results(measurement, tmp_path, caplog):
    measured, analysis = measurement
    samples = [replace(sample, image_id=60 - number) for number, sample in enumerate(measured.samples)]
    write_report(tmp_path, replace(measured, samples=samples), analysis, about(category_ids=[7, 3, 90]))
    results = json.loads((tmp_path / "coco_results_val.json").read_text())
    expected = [60 - number for number, rows in enumerate(measured.detections) for _ in rows]
    assert [row["image_id"] for row in results] == expected
    assert not (tmp_path / "coco_annotations_val.json").exists()
    assert not caplog.text
    samples[1] = replace(samples[1], image_id=60)
    write_report(tmp_path, replace(measured, samples=samples), analysis, about(category_ids=[7, 3, 90]))
    assert (tmp_path / "coco_annotations_val.json").exists()
    assert "coco_results_val.json goes with coco_annotations_val.json" in caplog.text
