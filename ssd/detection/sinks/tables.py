"""Detections as one file: JSON or CSV."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ssd.data.datasets.csv_text import COLUMNS
from ssd.detection.results import objects
from ssd.detection.sinks import Add, Header
from ssd.detection.sources import Frame
from ssd.utils.atomic_files import atomic_write
from ssd.utils.csv_cells import CsvWriter


@contextmanager
def json_file(path: Path, header: Header) -> Iterator[Add]:
    """{"model", "classes", "threshold", "images": [{"file", "width", "height",
      "detections": [{"class": 0-based index, "name", "score", "box": [xmin, ymin, xmax, ymax] in pixels}]}]}

    Frames of a video have "video", "frame" (from 0) and "seconds" too; no seconds where the file gives them no time.
    """
    head = json.dumps(
        {"model": header.model, "classes": header.classes, "threshold": header.threshold, "images": []},
        indent=1, ensure_ascii=False,
    )  # fmt: skip
    with atomic_write(path) as draft, draft.open("w", encoding="utf-8") as file:
        file.write(head.removesuffix("]\n}"))
        between = ""

        def add(frame: Frame, found: np.ndarray) -> None:
            nonlocal between
            text = json.dumps(_entry(frame, found, header.classes), indent=1, ensure_ascii=False, allow_nan=False)
            file.write(between + "\n  " + text.replace("\n", "\n  "))
            between = ","

        yield add
        file.write("\n ]\n}\n" if between else "]\n}\n")


@contextmanager
def csv_file(path: Path, header: Header) -> Iterator[Add]:
    """A line per object: image, label, xmin, ymin, xmax, ymax (pixels), score; an image without any has one, too.

    dataset=csv reads it.
    """
    with atomic_write(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = CsvWriter(file)
        writer.writerow([*COLUMNS, "score"])

        def add(frame: Frame, found: np.ndarray) -> None:
            for label, score, *corners in found.tolist():
                numbers = [f"{value:.6f}" for value in (*corners, score)]
                writer.writerow([frame.name, header.classes[int(label)], *numbers])
            if not len(found):
                writer.writerow([frame.name, *[""] * len(COLUMNS)])

        yield add


def _entry(frame: Frame, found: np.ndarray, classes: list[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"file": frame.name}
    if frame.clip:
        entry |= {"video": frame.clip.name, "frame": frame.number}
        if frame.seconds is not None:
            entry["seconds"] = round(frame.seconds, 4)
    entry |= {"width": frame.image.shape[1], "height": frame.image.shape[0]}
    entry["detections"] = objects(found, classes, 0)
    return entry
