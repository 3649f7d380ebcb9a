"""job=demo: a trained model on pictures, as annotated images and detections.json."""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
from omegaconf import DictConfig

from ssd.detection.draw import draw
from ssd.detection.results import Header, ImageResult, write_detections
from ssd.detection.sources import find_images, iterate, picture_name
from ssd.errors import UserError
from ssd.jobs.common import open_detector

log = logging.getLogger(__name__)

T = TypeVar("T")


def run(cfg: DictConfig, folder: Path) -> None:
    """Detects on cfg.source with cfg.model. Errors: UserError when either is missing or unreadable."""
    if cfg.model is None or cfg.source is None:
        raise UserError(
            "job=demo needs model= (a run directory or .params file) and source= (an image, directory or glob)"
        )
    find_images(cfg.source)  # a wrong source is told before the model is loaded
    detector = open_detector(cfg)
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    results = []
    for batch in batched(iterate(cfg.source), cfg.batch_size):
        for (name, image), found in zip(batch, detector.predict([image for _, image in batch]), strict=True):
            annotated = draw(image, found, detector.classes, cfg.job.threshold)
            cv2.imwrite(str(pictures / picture_name(name)), cv2.cvtColor(annotated, cv2.COLOR_RGB2BGR))
            results.append(ImageResult(name, image.shape[1], image.shape[0], found))
            log.info("%-24s %s", name, count(found[found[:, 1] >= cfg.job.threshold], detector.classes))
    write_detections(folder / "detections.json", Header(cfg.model, detector.classes, cfg.job.threshold), results)
    log.info("%-12s %s", "pictures", pictures)
    log.info("%-12s %s", "boxes", folder / "detections.json")


def count(detections: Iterable, classes: list[str]) -> str:
    """ "2 dog, 1 car", in the order of the classes."""
    labels = [int(row[0]) for row in detections]
    return ", ".join(f"{labels.count(index)} {classes[index]}" for index in sorted(set(labels))) or "nothing"


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
