"""Videos to read."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def moving() -> Callable[..., Path]:
    """moving(path, frames): writes a gray video in which frame k is k * 3 + 20 bright and a square moves."""

    def make(path: Path, count: int, size: tuple[int, int] = (64, 48), fps: float = 12.5) -> Path:
        codec = {".mp4": "mp4v", ".avi": "MJPG"}[path.suffix]
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size)
        assert writer.isOpened()
        for number in range(count):
            image = np.full((size[1], size[0], 3), 20 + 3 * number % 200, np.uint8)
            image[10:20, number % 40 : number % 40 + 10] = (0, 0, 255)
            writer.write(image)
        writer.release()
        return path

    return make
