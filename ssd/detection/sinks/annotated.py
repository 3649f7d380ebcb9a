"""Annotated images: as files, a video for a video, or in a window."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import cv2
import numpy as np

from ssd.data.images import encode
from ssd.detection.sources import Frame, image_name
from ssd.detection.video import suffix_of, video_file
from ssd.runs.results import images_folder
from ssd.utils.atomic_files import write_atomically
from ssd.utils.errors import UserError

Show = Callable[[Frame, np.ndarray], None]  # frame, its annotated image HxWx3 uint8 RGB
QUIT = (27, ord("q"))


@contextmanager
def annotated_files(folder: Path, codec: str) -> Iterator[Show]:
    """images/NAME for images, videos/NAME.mp4 for videos and cameras, each once its last frame came."""
    suffix = suffix_of(codec)
    current, write = None, None
    with ExitStack() as open_video:

        def show(frame: Frame, image: np.ndarray) -> None:
            nonlocal current, write
            if frame.clip is not current:
                open_video.close()
                current, write = frame.clip, None
            if frame.clip is None:
                place = images_folder(folder) / image_name(frame.name)
                place.parent.mkdir(exist_ok=True)
                write_atomically(place, encode(image, place.suffix.lower()))
                return
            if write is None:
                place = folder / "videos" / f"{frame.clip.stem}{suffix}"
                place.parent.mkdir(exist_ok=True)
                size = (image.shape[1], image.shape[0])
                write = open_video.enter_context(video_file(place, frame.clip.fps, size, codec))
            write(image, frame.seconds)

        yield show


@contextmanager
def window(closed: Event) -> Iterator[Show]:
    """Shows every frame at once; an image stays until a key is pressed. Esc, q and closing it set `closed`."""
    title = "ssd"
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(frame: Frame, image: np.ndarray) -> None:
        cv2.imshow(title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1 if frame.clip else 0) & 0xFF
        if key in QUIT or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            closed.set()

    try:
        yield show
    finally:
        cv2.destroyWindow(title)


def check_window() -> None:
    """Errors: UserError where no window can be shown."""
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "")
    if not gui or "NONE" in gui:
        raise UserError(
            "job.window=true: this OpenCV has no windows; "
            "pip uninstall opencv-python-headless && pip install 'ssd[gui]', or leave it out"
        )
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError("job.window=true: there is no display here (DISPLAY is not set); leave it out")
