"""job=demo: a trained model on images, videos or a camera, as annotated images and lists of what was found."""

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ssd.detection.detector import Detector
from ssd.detection.draw import draw
from ssd.detection.open_model import KINDS
from ssd.detection.selection import Selection
from ssd.detection.sinks import Add, Header
from ssd.detection.sinks.annotated import Show, annotated_files, check_window, window
from ssd.detection.sinks.datasets import coco_folder, voc_folder, yolo_folder
from ssd.detection.sinks.tables import csv_file, json_file
from ssd.detection.sources import DAMAGED, Frame, find, frames
from ssd.detection.stages import StageTimer, predict
from ssd.detection.video import suffix_of
from ssd.jobs.common import log_places, open_detector
from ssd.jobs.runtime import with_decoding
from ssd.runs.results import images_folder, write_metrics
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")

LISTS = {  # what job.save names -> where it is written, and by whom
    "json": ("detections.json", json_file),
    "csv": ("detections.csv", csv_file),
    "yolo": ("yolo", yolo_folder),
    "voc": ("voc", voc_folder),
    "coco": ("coco", coco_folder),
}
IMAGES = "images"
TELL_EVERY = 10.0  # seconds between two lines about a video


def run(cfg: DictConfig, folder: Path) -> None:
    """Detects on cfg.source with cfg.model. Errors: UserError when either is missing or unreadable."""
    if cfg.model is None or cfg.source is None:
        raise UserError(f"job=demo needs model= ({KINDS}) and source= (images, a video or a camera)")
    job: Any = OmegaConf.to_container(cfg.job, resolve=True)
    check(job)
    source = find(cfg.source)  # a wrong source is reported before the model is loaded
    detector = open_detector(cfg)
    cfg = with_decoding(cfg, detector.spec.detection)
    selection = Selection.of(job["threshold"], job["classes"], detector.classes)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    stages, teller = StageTimer(), ProgressLogger(detector.classes)
    stream = islice(stages.each("decode", frames(source, job["damaged"])), job["frames"])
    live = source.camera is not None
    with ended_by_hand(live) as stop, outputs(job, folder, header(cfg, job, detector, selection), stop) as sinks:
        # What is watched is shown before the next frame is taken.
        for batch in batched(stream, 1 if live or job["window"] else cfg.batch_size):
            found = [selection.pick(rows) for rows in predict(detector, [frame.image for frame in batch], stages)]
            for frame, rows in zip(batch, found, strict=True):
                sinks.take(frame, rows, detector.classes, stages)
                teller.write(frame, rows)
            stages.batch_done(len(batch))
            if stop.is_set():
                break
    finish(folder, job["save"], stages)


def check(job: dict[str, Any]) -> None:
    """Errors: UserError for options that make no sense."""
    if unknown := [name for name in job["save"] if name not in (IMAGES, *LISTS)]:
        raise UserError(f"job.save: {unknown[0]!r} is none of {', '.join((IMAGES, *LISTS))}")
    if job["damaged"] not in DAMAGED:
        raise UserError(f"job.damaged={job['damaged']}: expected {' or '.join(DAMAGED)}")
    if job["frames"] is not None and (type(job["frames"]) is not int or job["frames"] < 1):
        raise UserError(f"job.frames={job['frames']}: expected a number of at least 1, or null for all")
    suffix_of(job["codec"])
    if job["window"]:
        check_window()


def header(cfg: DictConfig, job: dict[str, Any], detector: Detector, selection: Selection) -> Header:
    same = isinstance(job["threshold"], (int, float))
    threshold = job["threshold"] if same else selection.describe(detector.classes)
    return Header(str(cfg.model), list(detector.classes), detector.spec.category_ids, threshold)


class Outputs:
    """Where frames go."""

    def __init__(self, lists: list[Add], images: list[Show]) -> None:
        self._lists, self._images = lists, images

    def take(self, frame: Frame, rows: np.ndarray, classes: list[str], stages: StageTimer) -> None:
        with stages.measure("save"):
            for add in self._lists:
                add(frame, rows)
        if not self._images:
            return
        with stages.measure("draw"):
            image = draw(frame.image, rows, classes, 0)
        with stages.measure("save"):
            for show in self._images:
                show(frame, image)


@contextmanager
def outputs(job: dict[str, Any], folder: Path, header: Header, stop: threading.Event) -> Iterator[Outputs]:
    """Everything job.save names, and the window; written when the block ends well."""
    with ExitStack() as stack:
        lists = [stack.enter_context(make(folder / name, header)) for key, (name, make) in LISTS.items()
                 if key in job["save"]]  # fmt: skip
        images = [stack.enter_context(annotated_files(folder, job["codec"]))] if IMAGES in job["save"] else []
        if job["window"]:
            images.append(stack.enter_context(window(stop)))
        yield Outputs(lists, images)


@contextmanager
def ended_by_hand(live: bool) -> Iterator[threading.Event]:
    """An event for "enough": closing the window sets it, and, because a camera has no other end, Ctrl-C."""
    event = threading.Event()
    if not live or threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGINT, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


class ProgressLogger:
    """A line per image; of videos one every few seconds."""

    def __init__(self, classes: list[str]) -> None:
        self._classes = classes
        self._next = 0.0

    def write(self, frame: Frame, rows: np.ndarray) -> None:
        if frame.clip is None:
            log.info("%-24s %s", frame.name, count(rows, self._classes))
        elif time.monotonic() >= self._next or frame.number + 1 == frame.clip.frames:
            self._next = time.monotonic() + TELL_EVERY
            of = f" of {frame.clip.frames}" if frame.clip.frames else ""
            log.info("%-24s frame %d%s: %s", frame.clip.name, frame.number + 1, of, count(rows, self._classes))


def finish(folder: Path, saved: list[str], stages: StageTimer) -> None:
    """Writes metrics.json and tells where everything is."""
    milliseconds = stages.milliseconds()
    metrics = {"frames": stages.frames, **{f"milliseconds/{name}": value for name, value in milliseconds.items()}}
    if milliseconds:
        metrics["frames_per_second"] = 1000 / sum(milliseconds.values())
        for line in stages.table():
            log.info("%s", line)
    write_metrics(folder, "demo", metrics)
    places = [("images", images_folder(folder)), ("videos", folder / "videos")]
    places += [(key, folder / name) for key, (name, _) in LISTS.items() if key in saved]
    log_places(dict(places))


def count(detections: np.ndarray, classes: list[str]) -> str:
    """ "2 dog, 1 car", in the order of the classes."""
    labels = Counter(detections[:, 0].astype(int).tolist())
    return ", ".join(f"{labels[index]} {classes[index]}" for index in sorted(labels)) or "nothing"


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
