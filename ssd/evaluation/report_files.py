"""Everything that is kept of a measurement: report.html, and the same as files for programs."""

import io
import logging
from pathlib import Path

import numpy as np

from ssd.data.datasets import coco_json
from ssd.data.images import encode
from ssd.detection.results import ImageResult, write_coco, write_voc
from ssd.evaluation.analysis import Analysis
from ssd.evaluation.coco import Numbering
from ssd.evaluation.curves import best_f1, curve_data, plot_curves
from ssd.evaluation.measure import EvalResult
from ssd.evaluation.report_page import ReportMeta, report
from ssd.evaluation.thresholds import exact
from ssd.utils.atomic_files import write_atomically, write_json
from ssd.utils.csv_cells import CsvWriter

log = logging.getLogger(__name__)

CURVE_POINTS = 400  # of each class in the file of curves
THRESHOLDS = ("threshold", "best_f1_threshold")  # columns that are there to be copied


def write_report(folder: Path, measured: EvalResult, analysis: Analysis, about: ReportMeta) -> Path:
    """Writes into the run directory, and returns the path of the page:

    <about.page>                       for a person
    classes_<split>.csv                one row per class
    curves_<split>.png and .json       precision and recall of every class
    voc/comp4_det_<split>_<class>.txt  detections as the VOC devkit reads them
    coco_results_<split>.json          detections as COCO's tools read them, with the dataset's own ids of images and
                                       categories: pycocotools with the dataset's file comes to the run's numbers
    coco_annotations_<split>.json      only where the dataset has no such ids: images are counted from 1 in the order of
                                       the split, classes from 1 in theirs, and this file has both and the objects;
                                       difficult ones as "ignore", which pycocotools does not heed
    """
    split = about.split
    write_atomically(folder / f"classes_{split}.csv", _classes(measured, analysis).encode())
    voc, names = measured.voc, measured.classes
    write_json(folder / f"curves_{split}.json", curve_data(voc, names, CURVE_POINTS), compact=True)
    write_atomically(folder / f"curves_{split}.png", encode(plot_curves(voc, names, range(len(names))), ".png"))
    images = [
        ImageResult(sample.path.name, sample.width, sample.height, found)
        for sample, found in zip(measured.samples, measured.detections, strict=True)
    ]
    write_voc(folder / "voc", split, images, [sample.id for sample in measured.samples], names)
    numbering = Numbering.of(measured.samples, about.category_ids, len(names))
    write_coco(folder / f"coco_results_{split}.json", images, numbering.images, numbering.categories)
    if not numbering.own:
        if any(sample.image_id is not None for sample in measured.samples):
            log.warning("ids of the dataset's files stand for several images or classes here, or are missing: "
                        "coco_results_%s.json goes with coco_annotations_%s.json beside it", split, split)  # fmt: skip
        categories = dict(zip(numbering.categories, names, strict=True))
        text = coco_json.write_samples(measured.samples, numbering.images, categories)
        write_atomically(folder / f"coco_annotations_{split}.json", text.encode())
    path = folder / about.page
    write_atomically(path, report(measured, analysis, about))
    return path


def _classes(measured: EvalResult, analysis: Analysis) -> str:
    """CSV with a header and one row per class; what does not exist is empty. Thresholds have all their digits, others
    six."""
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
        "threshold": analysis.thresholds.scores,
        "threshold_chosen_on": [analysis.thresholds.source] * len(measured.classes),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }
    out = io.StringIO(newline="")
    writer = CsvWriter(out)
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow([_cell(name, value) for name, value in zip(columns, row, strict=True)])
    return out.getvalue()


def _cell(column: str, value: object) -> str:
    if isinstance(value, (float, np.floating)):
        text = exact(float(value)) if column in THRESHOLDS else f"{value:.6g}"
        return text if np.isfinite(value) else ""
    return str(value)
