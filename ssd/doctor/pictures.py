"""Every picture file looked at once, by threads: does it decode, is it the annotated size, has it been seen before."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

import cv2
import numpy as np

from ssd.data.dataset import Sample
from ssd.data.images import glance
from ssd.errors import UserError

READ_AHEAD = 64  # pictures in memory at a time
THUMB = 16  # side of the grey thumbnail that stands for a picture


@dataclass(frozen=True)
class Picture:
    """What is remembered of a file: some 300 bytes.

    digest: of its contents, None when it cannot be read. size: (width, height), and thumb: uint8 [THUMB, THUMB], None
    when it cannot be decoded, for the reason `error`.
    """

    digest: bytes | None
    size: tuple[int, int] | None
    thumb: np.ndarray | None
    error: str | None


def look(sample: Sample) -> Picture:
    """Reads and decodes the picture of a sample."""
    digest = None
    try:
        data = sample.read()
        digest = blake2b(data, digest_size=16).digest()
        size, grey = glance(data, str(sample.path))
    except UserError as error:
        return Picture(digest, None, None, str(error).removeprefix(f"{sample.path}: "))
    return Picture(digest, size, cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA), None)


def look_at_all(samples: Sequence[Sample]) -> Iterator[Picture]:
    """One Picture per sample, in order; only a few are read ahead."""
    waiting: deque[Future[Picture]] = deque()
    with ThreadPoolExecutor() as threads:
        for sample in samples:
            waiting.append(threads.submit(look, sample))
            if len(waiting) >= READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def size_problem(sample: Sample, size: tuple[int, int]) -> str | None:
    """What differs between a picture's size and its annotation; None when nothing does."""
    noted = (sample.width, sample.height)
    if size == noted:
        return None
    turned = "; width and height are swapped, or its EXIF orientation turns it" if size == noted[::-1] else ""
    return f"the image is {size[0]}x{size[1]} but its annotation says {noted[0]}x{noted[1]}{turned}"
