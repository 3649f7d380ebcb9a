"""COCO's twelve numbers, computed by pycocotools from the same arrays as the VOC metric.

The arrays carry no masks, so "small", "medium" and "large" go by the area of the box; the official server uses the
area of the mask, which moves objects near 32² and 96² pixels. Boxes must therefore be in pixels.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssd.evaluation.boxes import area
from ssd.evaluation.table import Table, check_same_images, detection_table, ground_truth_table

NAMES = (
    *("AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge"),
    *("AR1", "AR10", "AR100", "ARsmall", "ARmedium", "ARlarge"),
)


def evaluate_coco(
    ground_truth: Sequence[np.ndarray], detections: Sequence[np.ndarray], num_classes: int
) -> dict[str, float]:
    """Measure detections as COCO does (IoU .50:.05:.95, 101 recall points, at most 100 detections per image and class).

    ground_truth: per image [M, 5..7], rows (class, xmin, ymin, xmax, ymax[, difficult[, crowd]]) in pixels; a difficult
        object is ignored whether found or not; a crowd region also swallows any number of detections inside it.
    detections: per image [N, 6], rows (class, score, xmin, ymin, xmax, ymax) in pixels, in any order.

    Returns {"AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge", "AR1", "AR10", "AR100", "ARsmall", "ARmedium",
    "ARlarge"}; nan where no object of that size exists. Raises UserError as `evaluate_voc` does.
    """
    check_same_images(ground_truth, detections)
    truth = ground_truth_table(ground_truth, num_classes)
    found = detection_table(detections, num_classes)
    images = len(ground_truth)
    truth_rows = _annotations(truth, truth.values[:, :4], {"ignore": truth.values[:, 4], "iscrowd": truth.values[:, 5]})
    found_rows = _annotations(found, found.values[:, 1:], {"score": found.values[:, 0]})
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports by printing
        stats = _stats(_index(truth_rows, images, num_classes), _index(found_rows, images, num_classes))
    return {name: float(value) if value >= 0 else float("nan") for name, value in zip(NAMES, stats, strict=True)}


def _annotations(table: Table, boxes: np.ndarray, extra: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Rows of a table as COCO annotations; ids count from 1 because pycocotools takes id 0 for "no match"."""
    corners_to_sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    columns = {
        "id": range(1, len(boxes) + 1),
        "image_id": table.image.tolist(),
        "category_id": table.label.tolist(),
        "bbox": corners_to_sides.tolist(),
        "area": area(boxes).tolist(),
    } | {name: values.tolist() for name, values in extra.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _index(annotations: list[dict[str, Any]], images: int, num_classes: int) -> Any:
    from pycocotools.coco import COCO

    index = COCO()
    index.dataset = {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label} for label in range(num_classes)],
        "annotations": annotations,
    }
    index.createIndex()
    return index


def _stats(truth: Any, found: Any) -> np.ndarray:
    from pycocotools.cocoeval import COCOeval

    class Evaluation(COCOeval):
        def _prepare(self) -> None:
            """pycocotools overwrites "ignore" with "iscrowd"; difficult objects must be ignored as well."""
            difficult = {number for number, row in self.cocoGt.anns.items() if row["ignore"]}
            super()._prepare()
            for rows in self._gts.values():
                for row in rows:
                    row["ignore"] = bool(row["iscrowd"]) or row["id"] in difficult

    evaluation = Evaluation(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats
