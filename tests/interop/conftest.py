"""Untrained networks whose answers spread, and pictures."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ssd.model import Model


@pytest.fixture(scope="session")
def random_model(module_at: Callable[[Path], ModuleType]) -> Callable[..., Model]:
    """random_model(words…): 20 classes, of the configured backbone and data shape."""
    tool = module_at(Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "parity.py")
    return lru_cache(tool.random_model)


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)  # blocks, so that there is something to see
    return [np.kron(image, np.ones((14, 15, 1), np.uint8)) for image in coarse]
