"""What `source=` points at, as a stream of named frames: images, videos, directories and globs of them, a camera."""

import glob
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssd.data.coverage import UNREAD_FORMATS
from ssd.data.datasets.listing import passed_over
from ssd.data.headers import SUFFIXES, UNREAD_SUFFIXES, image_format
from ssd.data.images import read_image
from ssd.detection.video import Clip, open_camera, open_video, read_frames
from ssd.utils.atomic_files import open_regular
from ssd.utils.errors import UserError

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")  # result images keep these, others become .jpg
FRAMES_AT_END = 1.5  # how many frames' time the last one may miss of a whole video's length
DAMAGED = ("skip", "error")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """image: HxWx3 uint8 RGB. name: a file name, unique within the source. path: of an image that is a file; else
    clip: what it was taken from, number: its place there, from 0, and seconds: its time there, if that is known."""

    name: str
    image: np.ndarray
    path: Path | None = None
    clip: Clip | None = None
    number: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Source:
    """What was found: files, sorted by path, or a camera."""

    text: str
    files: Sequence[Path]
    camera: int | None = None


def find(source: str | Path) -> Source:
    """The image and video files that a source names, or the camera if it is a number.

    A directory means its own files, not those of its subdirectories; a glob may say `photos/**/*.jpg`. Other files
    beside these are passed over; a single file is taken whatever its suffix. Raises UserError if there are none.
    """
    path, text = Path(source), str(source)
    if text.isdecimal() and path.exists():
        log.info("source=%s: the %s of this name, not the camera", text, "directory" if path.is_dir() else "file")
    if path.is_file():
        return Source(text, [path])
    known = ", ".join(suffix.removeprefix(".") for suffix in SUFFIXES + VIDEO_SUFFIXES)
    if path.is_dir():
        if found := _usable(path.iterdir()):
            return Source(text, found)
        raise UserError(
            f"source={source}: no images or videos in this directory (looking for {known}; subdirectories do not count)"
        )
    if text.isdecimal():
        return Source(text, [], int(text))
    if not glob.has_magic(text):
        raise UserError(
            f"source={source}: not found; expected an image, a video, a directory of them, a glob like 'photos/*.jpg' "
            "or the number of a camera"
        )
    if found := _usable(map(Path, glob.iglob(text, recursive=True))):
        return Source(text, found)
    raise UserError(f"source={source}: matches no images or videos (looking for {known})")


def frames(source: Source, damaged: str) -> Iterator[Frame]:
    """The frames of a source, one at a time and none kept.

    damaged: "skip" passes over files that cannot be read if there are others, and tells of them and of frames that a
    video lacks; "error" makes both a UserError. It is one, too, if nothing could be read at all.
    """
    if source.camera is not None:
        yield from _of_clip(*open_camera(source.camera))
        log.warning("%s: no more frames come from this camera", source.text)
        return
    unreadable = 0
    names = unique_names(source.files)
    stems = Stems()
    for name, path in zip(names, source.files, strict=True):
        try:
            _check_name(path)
            yield from _of_video(path, stems.take(name), damaged) if is_video(path) else [_image(name, path)]
        except UserError as error:
            if len(source.files) == 1 or damaged == "error":
                raise
            unreadable += 1
            log.warning("skipped: %s", error)
    if unreadable == len(source.files):
        raise UserError(f"source={source.text}: none of its {len(source.files)} files can be read")


def _check_name(path: Path) -> None:
    """Errors: UserError for a name that JSON and CSV cannot hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{path}: its name is not UTF-8 text; rename it") from error


def iterate(source: str | Path) -> Iterator[tuple[str, np.ndarray]]:
    """(name, HxWx3 uint8 RGB) of every frame, damaged ones skipped: see `find` and `frames`."""
    found = find(source)
    return ((frame.name, frame.image) for frame in frames(found, "skip"))


def is_video(path: Path) -> bool:
    """By the name, or, if that is none of ours, by whether the file starts as an image does."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES + VIDEO_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    with open_regular(path) as file:
        return image_format(file.read(64) or b"") is None


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A file name for each path, all different: as it is, or with the folders in front that tell it from its namesakes.

    a/dog.jpg, b/dog.jpg, b/cat.jpg -> a_dog.jpg, b_dog.jpg, cat.jpg
    """
    names = [path.name for path in paths]
    for depth in range(2, max((len(path.parts) for path in paths), default=0) + 1):
        clashing = {name for name, count in Counter(names).items() if count > 1}
        names = [
            "_".join(path.parts[-depth:]) if name in clashing else name for path, name in zip(paths, names, strict=True)
        ]
    if len(set(names)) < len(names):  # a/b.jpg beside a_b.jpg, say
        names = [f"{number}_{name}" for number, name in enumerate(names, start=1)]
    return names


class Stems:
    """Names without suffix that stay different: dog.jpg, dog.png -> dog, dog_png."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        stem = Path(name).stem
        if stem in self._taken:
            stem = name.replace(".", "_")
        base, number = stem, 2
        while stem in self._taken:
            stem, number = f"{base}_{number}", number + 1
        self._taken.add(stem)
        return stem


def image_name(name: str) -> str:
    """File name for the result image of an image: dog.jpg and dog.png stay, dog.webp becomes dog.webp.jpg."""
    return name if Path(name).suffix.lower() in IMAGE_SUFFIXES else f"{name}.jpg"


def _image(name: str, path: Path) -> Frame:
    return Frame(name, read_image(path), path)


def _of_video(path: Path, stem: str, damaged: str) -> Iterator[Frame]:
    capture, clip = open_video(path, stem)
    count, last = 0, None
    for last in _of_clip(capture, clip):
        count += 1
        yield last
    if last is None:
        raise UserError(f"{path}: no frame of this video can be read")
    if count >= clip.frames:
        return
    # The number is often no more than length times mean rate: what ends at its time, and without a gap, is whole.
    end = (clip.frames - 1 - FRAMES_AT_END) / clip.fps
    if last.number == count - 1 and last.seconds is not None and last.seconds >= end:
        log.info("%s: %d frames, its header promises %d", path, count, clip.frames)
        return
    message = f"{path}: {count} of the {clip.frames} frames it should have can be read; it is damaged or cut short"
    if damaged == "error":
        raise UserError(message)
    log.warning("%s", message)


def _of_clip(capture: cv2.VideoCapture, clip: Clip) -> Iterator[Frame]:
    for number, seconds, image in read_frames(capture, clip):
        yield Frame(f"{clip.stem}_{number:06d}.jpg", image, clip=clip, number=number, seconds=seconds)


def _usable(paths: Iterator[Path]) -> list[Path]:
    """The images and videos among some files, sorted, after a line on images that are passed over."""
    files = sorted(path for path in paths if path.is_file() and not passed_over(path.name))
    unread = [path.name for path in files if path.suffix.lower() in UNREAD_SUFFIXES]
    if unread:
        log.warning("passed over %d %s (%s)", len(unread), UNREAD_FORMATS, ", ".join(unread[:3]))
    return [path for path in files if path.suffix.lower() in SUFFIXES + VIDEO_SUFFIXES]
