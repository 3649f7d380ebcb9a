from collections.abc import Callable

import cv2
import numpy as np
import pytest


@pytest.fixture
def jpeg() -> Callable[[int, int], bytes]:
    """jpeg(width, height): a picture of noise."""

    def make(width: int, height: int) -> bytes:
        noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return cv2.imencode(".jpg", noise)[1].tobytes()

    return make
