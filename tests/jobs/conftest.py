"""Running the command line."""

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ssd(tmp_path: Path, run_in: Run) -> Run:
    """ssd(overrides…) runs `python -m ssd.run overrides…` in tmp_path, where outputs/ appears."""
    return partial(run_in, tmp_path)
