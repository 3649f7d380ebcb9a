"""Detections as the labels of a dataset, with the images they belong to: what a person corrects and trains on.

Boxes without area, which no dataset takes, are left out. Frames of videos become JPEG files.
"""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import yaml

from ssd.data.datasets import coco_json, voc_xml, yolo_text
from ssd.data.datasets.coco_json import CocoImage
from ssd.data.datasets.voc_xml import VOCObject
from ssd.data.headers import SUFFIXES
from ssd.data.images import encode
from ssd.detection.sinks import Add, Header
from ssd.detection.sources import Frame, Stems
from ssd.utils.atomic_files import atomic_dir


@contextmanager
def yolo_folder(folder: Path, header: Header) -> Iterator[Add]:
    """data.yaml, images/, labels/: dataset=yolo dataset.root=folder reads it."""
    with atomic_dir(folder) as draft:
        keep = _Images(draft / "images")
        (draft / "labels").mkdir()

        def add(frame: Frame, found: np.ndarray) -> None:
            text = yolo_text.write(as_boxes(found), _size(frame))
            (draft / "labels" / keep(frame)).with_suffix(".txt").write_text(text)

        yield add
        description = {"train": "images", "names": dict(enumerate(header.classes))}
        (draft / "data.yaml").write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True))


@contextmanager
def voc_folder(folder: Path, header: Header) -> Iterator[Add]:
    """Annotations/, JPEGImages/: dataset=voc dataset.root=folder reads it. Boxes in whole pixels, as the format has
    them."""
    with atomic_dir(folder) as draft:
        keep = _Images(draft / "JPEGImages")
        (draft / "Annotations").mkdir()

        def add(frame: Frame, found: np.ndarray) -> None:
            name = keep(frame)
            objects = [VOCObject(header.classes[int(row[0])], whole_pixels(row[1:5], _size(frame)), 0)
                       for row in as_boxes(found).tolist()]  # fmt: skip
            xml = voc_xml.write(name, *_size(frame), objects)
            (draft / "Annotations" / name).with_suffix(".xml").write_bytes(xml)

        yield add


@contextmanager
def coco_folder(folder: Path, header: Header) -> Iterator[Add]:
    """instances.json, images/: dataset=coco dataset.root=folder dataset.splits.train.annotations=instances.json
    dataset.splits.train.images=images dataset.splits.val=null reads it. Annotations have a score."""
    ids = header.category_ids or list(range(1, len(header.classes) + 1))
    with atomic_dir(folder) as draft, (draft / "instances.json").open("w") as file, TemporaryFile("w+") as images:
        keep = _Images(draft / "images")
        categories = [{"id": number, "name": name} for number, name in zip(ids, header.classes, strict=True)]
        file.write(f'{{"categories": {json.dumps(categories)},\n"annotations": [')
        counts = {"images": 0, "annotations": 0}

        def add(frame: Frame, found: np.ndarray) -> None:
            counts["images"] += 1
            image = CocoImage(counts["images"], keep(frame), *_size(frame))
            images.write(_separated(coco_json.image_entry(image), counts["images"]))
            for row, score in zip(as_boxes(found).tolist(), _with_area(found)[:, 1].tolist(), strict=True):
                counts["annotations"] += 1
                entry = coco_json.annotation_entry(counts["annotations"], image.id, ids[int(row[0])], row)
                file.write(_separated({**entry, "score": round(score, 6)}, counts["annotations"]))

        yield add
        file.write('],\n"images": [')
        images.seek(0)
        shutil.copyfileobj(images, file)
        file.write("]}\n")


def as_boxes(found: np.ndarray) -> np.ndarray:
    """Detections [N, 6] (class, score, corners) as boxes [M, 6] (class, corners, difficult = 0), those with an area."""
    rows = _with_area(found)
    return np.column_stack([rows[:, 0], rows[:, 2:6], np.zeros(len(rows))]).astype(np.float32)


def whole_pixels(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(xmin, ymin, xmax, ymax) as VOC counts pixels, from 1 and both ends inside, of a box in continuous pixels.

    No side moves by more than half a pixel, but for boxes of less than two pixels: the format's readers take one whose
    ends are equal for a slip of the mouse. size: (width, height) of the image.
    """
    corners = []
    for low, high, side in zip(box[:2], box[2:], size, strict=True):
        first, last = math.floor(low + 0.5) + 1, math.floor(high + 0.5)
        if last <= first:
            first = min(first, side - 1)
            last = first + 1
        corners.append((max(first, 1), min(last, side)))
    return (corners[0][0], corners[1][0], corners[0][1], corners[1][1])


class _Images:
    """A folder of images with names that differ without their suffixes, as the files of labels have none."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._stems = Stems()

    def __call__(self, frame: Frame) -> str:
        """Puts the image there as it is; returns its name."""
        suffix = Path(frame.name).suffix.lower()
        suffix = suffix if suffix in SUFFIXES else ".jpg"
        name = self._stems.take(frame.name) + suffix
        if frame.path is not None:
            shutil.copyfile(frame.path, self._folder / name)
        else:
            (self._folder / name).write_bytes(encode(frame.image, suffix))
        return name


def _with_area(found: np.ndarray) -> np.ndarray:
    return found[(found[:, 4] > found[:, 2]) & (found[:, 5] > found[:, 3])]


def _size(frame: Frame) -> tuple[int, int]:
    return frame.image.shape[1], frame.image.shape[0]


def _separated(entry: dict, number: int) -> str:
    return (",\n" if number > 1 else "\n") + json.dumps(entry, allow_nan=False)
