"""Untrained networks whose answers spread, and pictures."""

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ssd.model import Model


@lru_cache
def _tool() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "parity.py"
    spec = importlib.util.spec_from_file_location("parity", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def random_model() -> Callable[..., Model]:
    """random_model(words…): 20 classes, of the configured backbone and data shape."""
    return lru_cache(_tool().random_model)


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)  # blocks, so that there is something to see
    return [np.kron(image, np.ones((14, 15, 1), np.uint8)) for image in coarse]
