"""COCO's twelve numbers, computed by pycocotools from the same arrays as the VOC metric.

Where a dataset has no areas of its own, "small", "medium" and "large" go by the area of the box; COCO's files have the
area of the mask, which moves objects near 32² and 96² pixels. Boxes must therefore be in pixels.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssd.data.base import Sample
from ssd.evaluation.matching import Joined, join
from ssd.evaluation.table import Table
from ssd.ops.boxes import area

NAMES = (
    *("AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge"),
    *("AR1", "AR10", "AR100", "ARsmall", "ARmedium", "ARlarge"),
)


@dataclass(frozen=True)
class Numbering:
    """What images and classes are called in COCO's files.

    images: an id per image. categories: an id per class. own: whether both are the dataset's own; if not, images are
    counted from 1 in the order of the split, or classes in their order, and no file of the dataset has these ids.
    """

    images: Sequence[int | str]
    categories: Sequence[int | str]
    own: bool = True

    @classmethod
    def of(cls, samples: Sequence[Sample], category_ids: Sequence[int | str] | None, num_classes: int) -> "Numbering":
        """The dataset's own ids as far as it has them and each stands for one image or class."""
        images = [sample.image_id for sample in samples]
        known = [number for number in images if number is not None]
        images_own = _distinct(known, len(samples))
        categories_own = category_ids is not None and _distinct(category_ids, num_classes)
        return cls(
            known if images_own else range(1, len(samples) + 1),
            category_ids if category_ids is not None and categories_own else range(1, num_classes + 1),
            images_own and categories_own,
        )


def _distinct(ids: Sequence[int | str], count: int) -> bool:
    """Whether there are `count` different ids of one type: pycocotools cannot sort numbers and texts together."""
    return len(set(ids)) == len(ids) == count and len({type(number) for number in ids}) == 1


def evaluate_coco(
    ground_truth: Sequence[np.ndarray],
    detections: Sequence[np.ndarray],
    num_classes: int,
    numbering: Numbering | None = None,
    annotated: Sequence[np.ndarray] | None = None,
) -> dict[str, float]:
    """Measure detections as COCO does (IoU .50:.05:.95, 101 recall points, at most 100 detections per image and class).

    ground_truth: per image [M, 5..7], rows (class, xmin, ymin, xmax, ymax[, difficult[, crowd]]) in pixels; a difficult
        object is ignored whether found or not; a crowd region also swallows any number of detections inside it.
    detections: per image [N, 6], rows (class, score, xmin, ymin, xmax, ymax) in pixels, in any order.
    numbering: ids that pycocotools sorts images and classes by, which decides between equal scores.
    annotated: Sample.annotated of every image, which is measured against instead of ground_truth. With both, the
        numbers equal pycocotools' on the dataset's file and the results that `write_coco` writes, to the last digit.

    Returns {"AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge", "AR1", "AR10", "AR100", "ARsmall", "ARmedium",
    "ARlarge"}; nan where no object of that size exists. Raises UserError as `evaluate_voc` does.
    """
    return measure_coco(join(ground_truth, detections, num_classes), numbering, annotated)


def measure_coco(
    joined: Joined, numbering: Numbering | None = None, annotated: Sequence[np.ndarray] | None = None
) -> dict[str, float]:
    """The numbers of `evaluate_coco`, which has the arguments, too."""
    numbering = numbering or Numbering(range(joined.images), range(joined.num_classes))
    truth, found = joined.truth, joined.found
    corners = truth.values[:, :4]
    sides, areas = _sides(corners), area(corners)
    flags = {"ignore": truth.values[:, 4], "iscrowd": truth.values[:, 5]}
    if annotated is not None:
        rows = np.concatenate([np.zeros((0, 7)), *annotated])
        truth = Table(np.repeat(np.arange(len(annotated)), list(map(len, annotated))), rows[:, 0].astype(int), rows)
        sides, areas = rows[:, 1:5], rows[:, 5]
        flags = {"ignore": np.zeros(len(rows)), "iscrowd": rows[:, 6]}
    truth_rows = _annotations(truth, sides, areas, flags, numbering)
    corners = found.values[:, 1:]
    found_rows = _annotations(found, _sides(corners), area(corners), {"score": found.values[:, 0]}, numbering)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports by printing
        stats = _stats(_index(truth_rows, numbering), _index(found_rows, numbering))
    return {name: float(value) if value >= 0 else float("nan") for name, value in zip(NAMES, stats, strict=True)}


def _sides(corners: np.ndarray) -> np.ndarray:
    """float64 [R, 4], x, y, width, height."""
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _annotations(
    table: Table, boxes: np.ndarray, areas: np.ndarray, extra: dict[str, np.ndarray], numbering: Numbering
) -> list[dict[str, Any]]:
    """Rows of a table as COCO annotations; ids count from 1 because pycocotools takes id 0 for "no match"."""
    columns = {
        "id": range(1, len(boxes) + 1),
        "image_id": [numbering.images[index] for index in table.image.tolist()],
        "category_id": [numbering.categories[index] for index in table.label.tolist()],
        "bbox": boxes.tolist(),
        "area": areas.tolist(),
    } | {name: values.tolist() for name, values in extra.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _index(annotations: list[dict[str, Any]], numbering: Numbering) -> Any:
    from pycocotools.coco import COCO

    index = COCO()
    index.dataset = {
        "images": [{"id": image} for image in numbering.images],
        "categories": [{"id": label} for label in numbering.categories],
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
