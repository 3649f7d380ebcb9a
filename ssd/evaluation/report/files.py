"""Everything that is kept of a measurement: report.html, and the same as files for programs."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd.data.dataset import Sample
from ssd.data.images import encode
from ssd.detection.results import ImageResult, write_coco, write_voc
from ssd.evaluation.analysis import Analysis
from ssd.evaluation.curves import best_f1, curve_data, plot_curves
from ssd.evaluation.measure import Measured
from ssd.evaluation.report.report import About, report
from ssd.files import write_atomically

CURVE_POINTS = 400  # of each class in curves.json


def write_report(folder: Path, measured: Measured, analysis: Analysis, about: About) -> Path:
    """Writes into the run directory, and returns the path of report.html:

    report.html                        for a person
    classes.csv                        one row per class
    curves.png, curves.json            precision and recall of every class
    voc/comp4_det_test_<class>.txt     detections as the VOC devkit reads them
    coco_results.json                  detections as COCO's tools read them; image_id is the sample's id where all are
                                       numbers, else its place in the split from 1 on; category_id the data set's
                                       category_ids where it has them, else the class's place from 1 on
    """
    write_atomically(folder / "classes.csv", _classes(measured, analysis).encode())
    voc, names = measured.voc, measured.classes
    write_atomically(folder / "curves.json", json.dumps(curve_data(voc, names, CURVE_POINTS)).encode())
    write_atomically(folder / "curves.png", encode(plot_curves(voc, names, range(len(names))), ".png"))
    images = [
        ImageResult(sample.path.name, sample.width, sample.height, found)
        for sample, found in zip(measured.samples, measured.detections, strict=True)
    ]
    write_voc(folder / "voc", images, [sample.id for sample in measured.samples], names)
    categories = about.category_ids or range(1, len(names) + 1)
    write_coco(folder / "coco_results.json", images, image_ids(measured.samples), categories)
    path = folder / "report.html"
    write_atomically(path, report(measured, analysis, about))
    return path


def image_ids(samples: Sequence[Sample]) -> list[int]:
    """COCO's ids are numbers: those of the samples if they are, else 1, 2, 3, …"""
    if all(sample.id.isdecimal() for sample in samples):
        ids = [int(sample.id) for sample in samples]
        if len(set(ids)) == len(ids):
            return ids
    return list(range(1, len(samples) + 1))


def _classes(measured: Measured, analysis: Analysis) -> str:
    """CSV with a header and one row per class; what does not exist is empty."""
    voc = measured.voc
    precision, recall, f1 = analysis.rates()
    best_threshold, highest_f1 = best_f1(voc)
    columns = {
        "class": list(measured.classes),
        "objects": voc["positives"],
        "ap_11pt": voc["ap_11pt"],
        "ap_area": voc["ap_area"],
        "mean_iou": voc["iou"],
        "true_positives": voc["true_positives"],
        "false_positives": voc["false_positives"],
        "best_f1": highest_f1,
        "best_f1_threshold": best_threshold,
        "threshold": analysis.thresholds,
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}" if np.isfinite(value) else ""
    return str(value)
