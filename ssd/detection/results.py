"""Detections of a dataset as files: PASCAL VOC's comp4 lists, COCO's results; each written whole or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssd.utils.atomic_files import write_atomically, write_json
from ssd.utils.names import distinct


@dataclass(frozen=True)
class ImageResult:
    """file: name of the image; width, height: its size in pixels; detections: [N, 6] rows (class, score, xmin, ymin,
    xmax, ymax) in its pixels, best score first."""

    file: str
    width: int
    height: int
    detections: np.ndarray


SCORE_DECIMALS = 6


def shown_scores(detections: np.ndarray) -> np.ndarray:
    """float64 [N], scores of detections [N, 6] as files and answers have them. Thresholds are compared with these, so
    that a score that was copied as a threshold keeps the detection it belongs to."""
    return np.round(detections[:, 1].astype(np.float64), SCORE_DECIMALS)


def objects(detections: np.ndarray, classes: Sequence[str], threshold: float) -> list[dict[str, Any]]:
    """Detections [N, 6] of one image with score >= threshold, as the demo's JSON and the model server tell them."""
    return [
        {
            "class": int(row[0]),
            "name": classes[int(row[0])],
            "score": score,
            "box": [round(float(value), 2) for value in row[2:6]],
        }
        for row, score in zip(detections, shown_scores(detections).tolist(), strict=True)
        if score >= threshold
    ]


def write_voc(
    folder: Path, split: str, images: Sequence[ImageResult], image_ids: Sequence[str], class_names: Sequence[str]
) -> None:
    """Write comp4_det_<split>_<class>.txt, as the devkit names them, for every class: "image-id score xmin ymin xmax
    ymax". What a class has in its name that a file cannot becomes "_" (ssd.utils.names.distinct).

    Corners are VOC's inclusive 1-based pixels: (xmin + 1, ymin + 1, xmax, ymax). Pixels keep two decimals, as the
    devkit reads real numbers, and scores six, so that close ones do not become ties.
    """
    lines: list[list[str]] = [[] for _ in class_names]
    for image_id, image in zip(image_ids, images, strict=True):
        for row in image.detections:
            corners = " ".join(f"{value:.2f}" for value in row[2:6] + np.array([1, 1, 0, 0]))
            lines[int(row[0])].append(f"{image_id} {row[1]:.6f} {corners}\n")
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in zip(distinct(class_names), lines, strict=True):
        write_atomically(folder / f"comp4_det_{split}_{name}.txt", "".join(found).encode())


def write_coco(
    path: Path, images: Sequence[ImageResult], image_ids: Sequence[int | str], category_ids: Sequence[int | str]
) -> None:
    """Write COCO's results list: [{"image_id", "category_id", "bbox": [xmin, ymin, width, height], "score"}].

    image_ids: COCO's id of each image, in their order. category_ids: COCO's id (not contiguous) of each class index.
    Numbers are written with all their digits: rounded, other detections would have equal scores, and pycocotools would
    not come to the numbers of the run.
    """
    content = [
        {
            "image_id": image_id,
            "category_id": category_ids[int(row[0])],
            "bbox": [row[2], row[3], row[4] - row[2], row[5] - row[3]],
            "score": row[1],
        }
        for image_id, image in zip(image_ids, images, strict=True)
        for row in image.detections.astype(np.float64).tolist()
    ]
    write_json(path, content, compact=True)
