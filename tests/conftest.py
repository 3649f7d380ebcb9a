"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ssd", deadline=None)  # times depend on what else the machine does
settings.load_profile("ssd")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real data sets and reference outputs beside the checkout (or $SSD_SHARED); absent elsewhere."""
    folder = Path(os.environ.get("SSD_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder}: set SSD_SHARED to a folder that has it")
    return folder
