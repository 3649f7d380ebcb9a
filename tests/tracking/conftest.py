"""A run to write down."""

from pathlib import Path

import pytest

from ssd.tracking import RunInfo


@pytest.fixture
def run(tmp_path: Path) -> RunInfo:
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"seed": 0, "head": {"sizes": [[0.1, 0.14], [0.2, 0.27]], "steps": None}, "device": {"name": "cpu"}}
    return RunInfo("small_128_shapes", "train", config, folder, ["cat", "traffic light"], epochs=2, steps=100)
