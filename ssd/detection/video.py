"""Videos and cameras as frames, and frames as a video file, by OpenCV's own FFmpeg."""

import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ssd.data.images import MAX_PIXELS
from ssd.utils.atomic_files import draft_folder, open_regular
from ssd.utils.errors import UserError

USUAL_FPS = 25.0  # of a video or camera that does not say
MOST_FAILURES = 250  # frames in a row, some seconds, behind which nothing is expected any more
MOST_REPEATS = 100_000  # of one frame, an hour: what asks for more has no sensible times
MOST_FPS = 1000.0  # what says more counts ticks of a clock, not images
SUFFIX_OF = {"mp4v": ".mp4", "avc1": ".mp4", "MJPG": ".avi", "XVID": ".avi"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """A video, or a camera (live). stem: unique within the source. frames: as many as it says it has, or 0."""

    name: str
    stem: str
    fps: float
    frames: int
    live: bool


def open_camera(number: int) -> tuple[cv2.VideoCapture, Clip]:
    """Errors: UserError when there is no such camera."""
    _be_quiet()
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise UserError(f"source={number}: there is no camera {number} here, or another program is using it")
    return capture, Clip(f"camera {number}", f"camera_{number}", _fps(capture), 0, live=True)


def open_video(path: Path, stem: str) -> tuple[cv2.VideoCapture, Clip]:
    """Errors: UserError when the file cannot be read as a video, or its images are too large."""
    _be_quiet()
    try:
        open_regular(path).close()
    except OSError as error:
        raise UserError(f"{path}: cannot read the video: {error.strerror}") from error
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    capture.set(
        cv2.CAP_PROP_ORIENTATION_AUTO, 1
    )  # frames upright, as players show them; OpenCV 4.11 does not by itself
    if not capture.isOpened():
        raise UserError(f"{path}: neither an image nor a video that can be read; it may be damaged or cut short")
    width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: {width}x{height} pixels are too many, at most {MAX_PIXELS // 10**6} million")
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return capture, Clip(path.name, stem, _fps(capture), int(frames) if 0 < frames < 1e9 else 0, live=False)


def read_frames(capture: cv2.VideoCapture, clip: Clip) -> Iterator[tuple[int, float | None, np.ndarray]]:
    """(number, seconds, HxWx3 uint8 RGB) of frame after frame until there are no more; then the file or camera is let
    go.

    seconds: since the start of the video, as the file has them for each frame, or of a camera since its first frame;
    None where the file has none that grow. Damaged frames are left out. Reading goes on behind them as long as more
    frames should come.
    """
    number = failures = 0
    times = _Times(clip.live)
    try:
        while True:
            there, image = capture.read()
            if there:
                failures = 0
                yield number, times.of(capture), cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            else:
                failures += 1
                if number >= clip.frames or failures > MOST_FAILURES:
                    return
            number += 1
    finally:
        capture.release()


class _Times:
    """Time stamps of the frames of a capture, each read once."""

    def __init__(self, live: bool) -> None:
        self._start = time.monotonic() if live else None
        self._last = -1.0

    def of(self, capture: cv2.VideoCapture) -> float | None:
        if self._start is not None:
            if self._last < 0:
                self._start = time.monotonic()
            seconds = time.monotonic() - self._start
        else:
            seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not (math.isfinite(seconds) and seconds > self._last):
            return None
        self._last = seconds
        return seconds


def suffix_of(codec: str) -> str:
    """The kind of file a codec goes into. Errors: UserError for one that is not known."""
    if codec not in SUFFIX_OF:
        raise UserError(f"job.codec={codec}: no such codec, choose from {', '.join(SUFFIX_OF)}")
    return SUFFIX_OF[codec]


class Add(Protocol):
    """Adds an image (HxWx3 uint8 RGB) to a video. seconds: since its start; None = right after the one before."""

    def __call__(self, image: np.ndarray, seconds: float | None = None) -> None: ...


@contextmanager
def video_file(path: Path, fps: float, size: tuple[int, int], codec: str) -> Iterator[Add]:
    """Yields a function that adds an image; the video appears when the block ends well and all of it can be read back.

    It has one rate, fps. An image with a time stands in the frame nearest to it: the one before is repeated until
    then, and left out if none was left for it.
    size: (width, height); an odd side gets a line more, for codecs halve the resolution of colors. Images of another
    size (a stream may change it) are resized. Errors: UserError when OpenCV lacks the codec, or the video is not whole.
    """
    _be_quiet()
    even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    with draft_folder(path) as folder:  # the suffix says to the codec what file it is
        draft = folder / path.name
        writer = cv2.VideoWriter(str(draft), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, even)
        if not writer.isOpened():
            raise UserError(f"{path}: this OpenCV cannot write {codec} at {fps:g} frames/s; try job.codec=mp4v or MJPG")
        written = 0
        last: np.ndarray | None = None  # not yet written: the next may come at the same time

        def add(image: np.ndarray, seconds: float | None = None) -> None:
            nonlocal last
            if last is not None:
                until = written + 1 if seconds is None else min(round(seconds * fps), written + MOST_REPEATS)
                write(last, until - written)
            last = framed(image)

        def write(frame: np.ndarray, times: int) -> None:
            nonlocal written
            for _ in range(times):
                writer.write(frame)
                written += 1

        def framed(image: np.ndarray) -> np.ndarray:
            if image.shape[1::-1] != size:
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            image = cv2.copyMakeBorder(image, 0, even[1] - size[1], 0, even[0] - size[0], cv2.BORDER_REPLICATE)
            return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)

        try:
            yield add
            if last is not None:
                write(last, 1)
        finally:
            writer.release()
        _check(draft, path, even, written)
        os.replace(draft, path)


def _check(draft: Path, path: Path, size: tuple[int, int], written: int) -> None:
    """Reading the header is enough: it is written last, and counts what was stored."""
    capture = cv2.VideoCapture(str(draft), cv2.CAP_FFMPEG)
    keys = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_COUNT)
    found = tuple(int(capture.get(key)) for key in keys) if capture.isOpened() else (0, 0, 0)
    capture.release()
    if found != (*size, written):
        raise UserError(
            f"{path}: {written} frames of {size[0]}x{size[1]} were written, {found[2]} of {found[0]}x{found[1]} can be "
            "read back; is the disk full?"
        )


def _fps(capture: cv2.VideoCapture) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if math.isfinite(fps) and 0 < fps <= MOST_FPS else USUAL_FPS


def _be_quiet() -> None:
    """OpenCV and FFmpeg write about damaged files to stderr by themselves; what matters is said by our errors."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.setLogLevel(0)
