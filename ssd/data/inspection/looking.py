"""Every image file looked at, by threads: does it decode, is it the annotated size, has it been seen before."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np

from ssd.data.base import Sample
from ssd.data.images import decode_thumbnail
from ssd.utils.atomic_files import read_limited, write_atomically
from ssd.utils.errors import UserError
from ssd.utils.sequences import read_ahead

log = logging.getLogger(__name__)

READ_AHEAD = 64  # images in memory at a time
THUMB = 16  # side of the gray thumbnail that stands for an image
FORMAT = 1  # of the file of Known, counted up when what makes an image sound changes
MOST_SEEN = 100_000  # images kept in memory, some 50 MB
ROW = re.compile(r"([0-9a-f]{24}) ([0-9a-f]{32}) ([1-9][0-9]{0,6}) ([1-9][0-9]{0,6})")  # of the file of Known
MOST_BYTES = 300_000_000  # of the file
MOST_KNOWN = 2_000_000  # images; with more of them the file is begun anew


@dataclass(frozen=True)
class ImageFacts:
    """What is remembered of a file: some 300 bytes.

    digest: of its contents, None when it cannot be read. size: (width, height), and thumb: uint8 [THUMB, THUMB], None
    when it cannot be decoded, for the reason `error`. thumb is None, too, of an image that was looked at in the past.
    """

    digest: bytes | None
    size: tuple[int, int] | None
    thumb: np.ndarray | None
    error: str | None


_seen: dict[str, ImageFacts] = {}  # by key_of


def look(sample: Sample) -> ImageFacts:
    """Reads and decodes the image of a sample; one that this process has looked at is not read again."""
    key = key_of(sample)
    if key is not None and key in _seen:
        return _seen[key]
    image = _look(sample)
    if key is not None and len(_seen) < MOST_SEEN:
        _seen[key] = image
    return image


def _look(sample: Sample) -> ImageFacts:
    digest = None
    try:
        data = sample.read()
        digest = blake2b(data, digest_size=16).digest()
        size, gray = decode_thumbnail(data, str(sample.path))
    except UserError as error:
        return ImageFacts(digest, None, None, str(error).removeprefix(f"{sample.path}: "))
    return ImageFacts(digest, size, cv2.resize(gray, (THUMB, THUMB), interpolation=cv2.INTER_AREA), None)


def look_at_all(samples: Sequence[Sample]) -> Iterator[ImageFacts]:
    """One ImageFacts per sample, in order; only a few are read ahead."""
    return read_ahead(look, samples, READ_AHEAD)


def size_problem(sample: Sample, size: tuple[int, int]) -> str | None:
    """What differs between an image's size and its annotation; None when nothing does."""
    noted = (sample.width, sample.height)
    if size == noted:
        return None
    turned = "; width and height are swapped, or its EXIF orientation turns it" if size == noted[::-1] else ""
    return f"the image is {size[0]}x{size[1]} but its annotation says {noted[0]}x{noted[1]}{turned}"


class Known:
    """Images that were found sound before, in a file: by path, bytes and time of change. None = no file, none known.

    Those that are not are looked at anew every time. The file saves time and nothing else: it may be deleted, and one
    that cannot be read or written is done without.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._found: dict[str, tuple[str, int, int]] = {}
        self._head = f"{FORMAT} {cv2.__version__}"
        if file is not None:
            try:
                self._found = self._read(file)
            except FileNotFoundError:
                pass
            except (OSError, ValueError, UserError) as error:
                log.warning("%s: cannot be used, the images are looked at again (%s)", file, str(error)[:200])

    def get(self, key: str) -> ImageFacts | None:
        found = self._found.get(key)
        return found and ImageFacts(bytes.fromhex(found[0]), found[1:], None, None)

    def put(self, images: dict[str, ImageFacts]) -> None:
        """Adds those of the images, by their keys, that are sound."""
        new = {key: (image.digest.hex(), *image.size) for key, image in images.items()
               if image.size and image.digest}  # fmt: skip
        if not new or self._file is None:
            return
        with contextlib.suppress(OSError, ValueError, UserError):
            if self._file.is_file():  # another job may have added its own meanwhile
                self._found = self._read(self._file)
        self._found = new if len(self._found) > MOST_KNOWN else self._found | new
        rows = "".join(f"{key} {digest} {width} {height}\n" for key, (digest, width, height) in self._found.items())
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, f"{self._head}\n{rows}".encode())

    def _read(self, file: Path) -> dict[str, tuple[str, int, int]]:
        """Errors: OSError; UserError for what is no regular file or too large; ValueError for a damaged one."""
        head, *lines = read_limited(file, MOST_BYTES, "a list of images").decode().splitlines() or [""]
        if head != self._head:
            return {}
        rows = [match for line in lines if (match := ROW.fullmatch(line))]
        if len(rows) < len(lines):
            raise ValueError("damaged")
        return {row[1]: (row[2], int(row[3]), int(row[4])) for row in rows}


def key_of(sample: Sample) -> str | None:
    """Stands for the image of a sample as it lies now; None where it cannot be found."""
    try:
        stamp = sample.stamp()
    except (UserError, OSError):
        return None
    text = f"{os.path.abspath(sample.path)}\0{stamp[0]}\0{stamp[1]}"
    return blake2b(text.encode(errors="surrogateescape"), digest_size=12).hexdigest()
