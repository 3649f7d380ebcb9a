"""Configurations and graphs for the tests of the networks."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from omegaconf import DictConfig

from ssd.config.compose import compose
from ssd.mxnet_compat import mx

Configure = Callable[..., DictConfig]


@lru_cache
def _compose(backbone: str, shape: str, compat: str) -> DictConfig:
    return compose([f"backbone={backbone}", f"data_shape={shape}", f"compat={compat}"])


@pytest.fixture(scope="session")
def configure() -> Configure:
    """configure(backbone, data shape, compat) -> a configuration of one's own."""

    def copy(backbone: str = "small", shape: str | int = 128, compat: str | None = None) -> DictConfig:
        return _compose(backbone, str(shape), compat or "null").copy()

    return copy


@pytest.fixture(scope="session")
def anchors_of() -> Callable[[mx.sym.Symbol, DictConfig], np.ndarray]:
    """Anchors [N, 4] of a graph, on an empty image."""

    def anchors(symbol: mx.sym.Symbol, cfg: DictConfig) -> np.ndarray:
        node = symbol.get_internals()["multibox_anchors_output"]
        shape = (1, 3, cfg.data_shape.height, cfg.data_shape.width)
        executor = node.simple_bind(mx.cpu(), data=shape, grad_req="null")
        return executor.forward()[0].asnumpy()[0]

    return anchors


@pytest.fixture(scope="session")
def fill() -> Callable[[mx.executor.Executor, int], None]:
    """fill(executor, seed): every parameter a function of its name, of a size that keeps activations near 1."""

    def run(executor: mx.executor.Executor, seed: int = 0) -> None:
        for name, array in sorted({**executor.arg_dict, **executor.aux_dict}.items()):
            random = np.random.default_rng([seed, *name.encode()])
            if name.endswith(("_gamma", "_var")):
                array[:] = 1
            elif name.endswith(("_beta", "_mean", "_bias")):
                array[:] = random.normal(0, 0.1, array.shape)
            elif name.endswith("_weight"):
                array[:] = random.normal(0, np.sqrt(2 / np.prod(array.shape[1:])), array.shape)

    return run
