"""A small network and batches of noise."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from ssd.config.compose import compose
from ssd.mxnet_compat import mx
from ssd.tracking.events import Events
from ssd.training.fit import TrainLoop
from ssd.training.hook import Hook
from ssd.training.losses import StepLosses
from ssd.training.progress import Progress
from ssd.training.trainer import Trainer

BATCH = 4
LABELS = (BATCH, 3, 6)


class Noise:
    """Shapes of batches with two objects per image, and the batches."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.provide_data = [mx.io.DataDesc("data", (BATCH, 3, side, side))]
        self.provide_label = [mx.io.DataDesc("label", LABELS)]

    def batch(self, seed: int) -> Any:
        rng = np.random.default_rng(seed)
        label = np.full(LABELS, -1, np.float32)
        low = rng.uniform(0, 0.5, (BATCH, 2, 2))
        label[:, :2] = np.concatenate(
            [rng.integers(3, size=(BATCH, 2, 1)), low, low + rng.uniform(0.2, 0.5, (BATCH, 2, 2)), low[..., :1] * 0], -1
        )
        data = rng.normal(0, 1, (BATCH, 3, self.side, self.side))
        return mx.io.DataBatch(
            [mx.nd.array(data)], [mx.nd.array(label)], pad=0,
            provide_data=self.provide_data, provide_label=self.provide_label,
        )  # fmt: skip


@pytest.fixture(scope="session")
def noise() -> Callable[[int], Noise]:
    """noise(side) -> batches of square images."""
    return Noise


@pytest.fixture(scope="session")
def loop_steps() -> Callable[..., list[StepLosses]]:
    """loop_steps(trainer, hooks, events, batches, first=0) -> losses of these steps of the training loop, the first of
    which follows so many others."""

    def run(
        trainer: Trainer, hooks: list[Hook], events: Events, batches: list[Any], first: int = 0
    ) -> list[StepLosses]:
        losses = []

        class Losses(Hook):
            def after_step(self, loop: TrainLoop) -> None:
                losses.append(loop.losses)

        left = iter(batches)
        loader: Any = SimpleNamespace(
            steps=first + len(batches), batch_size=BATCH, start=lambda epoch, batch: None, next=lambda: next(left)
        )
        train_state: Any = SimpleNamespace(trainer=trainer, progress=Progress(step=first), mark=lambda: None)
        TrainLoop(train_state, loader, 1, [*hooks, Losses()], events).run()
        return losses

    return run


@pytest.fixture(scope="session")
def settings() -> Callable[..., DictConfig]:
    """settings(overrides…) -> the small network at 64 pixels, plain SGD."""

    def make(*overrides: str) -> DictConfig:
        return compose(
            ["data_shape=64", "schedule=constant", "optimizer=sgd", "optimizer.learning_rate=0.01", *overrides]
        )

    return make
