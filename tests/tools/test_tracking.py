"""The benchmark of loggers: its own one measures whole epochs."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ["dataset.train=8", "dataset.val=2", "data_shape=64", "batch_size=4", "epochs=3", "logger=[]",
        "device.threads=1", "loader.workers=0"]  # fmt: skip


@pytest.mark.slow
def test_epochs_are_timed(module_at, tmp_path: Path) -> None:
    seconds, steps = module_at(ROOT / "tools" / "benchmarks" / "tracking.py").epochs_of(TINY, tmp_path)
    assert steps == 2
    assert len(seconds) == 2  # all but the first
    assert all(wall > 0 and processor > 0 for wall, processor in seconds)
