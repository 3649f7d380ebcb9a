"""Running the command line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ssd(tmp_path: Path) -> Run:
    """ssd(words…) runs `python -m ssd.run words…` in tmp_path, where outputs/ appears."""

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "ssd.run", *words]
        environment = {**os.environ, "COLUMNS": "200"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture
def jpeg() -> Callable[[int, int], bytes]:
    """jpeg(width, height): a picture of noise."""

    def make(width: int, height: int) -> bytes:
        noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return cv2.imencode(".jpg", noise)[1].tobytes()

    return make
