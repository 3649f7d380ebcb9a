"""The training loop, and nothing else."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ssd.errors import UserError
from ssd.tracking.events import Events
from ssd.training.checkpoint import Checkpoints, optimizer_states
from ssd.training.losses import StepLosses
from ssd.training.monitor import Monitor
from ssd.training.trainer import Trainer

# Called with (epoch, step) after an epoch; returns what it measured, named val/….
Validate = Callable[[int, int], dict[str, float]]


@dataclass(frozen=True)
class Plan:
    """How long, and how often the rest happens."""

    epochs: int
    log_every: int  # steps
    validate_every: int  # epochs


@dataclass
class Meter:
    """Losses, images and times since its creation."""

    losses: StepLosses = StepLosses()
    images: int = 0
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, losses: StepLosses, images: int, waited: float) -> None:
        self.losses += losses
        self.images += images
        self.waited += waited

    def values(self) -> dict[str, float]:
        elapsed = time.perf_counter() - self.started
        return {
            "train/loss": self.losses.loss,
            "train/cross_entropy": self.losses.cross_entropy,
            "train/smooth_l1": self.losses.smooth_l1,
            "train/images_per_second": self.images / elapsed,
            "train/data_wait": self.waited / elapsed,
        }


def fit(
    trainer: Trainer, loader: Any, plan: Plan, events: Events, validate: Validate, checkpoints: Checkpoints
) -> None:
    """Trains for `plan.epochs`, validating and saving after each.

    loader: batches by next() until StopIteration, reset(), and names(batch) of the pictures in it.
    Errors: UserError for a loss that is not finite.
    """
    step = 0
    monitor = Monitor(trainer, events)
    for epoch in range(1, plan.epochs + 1):
        whole, recent = Meter(), Meter()
        for done, (batch, waited) in enumerate(timed(loader), start=1):
            step += 1
            losses = monitor.step(batch, step)
            if not losses.finite:
                raise UserError(
                    f"the loss is not finite in epoch {epoch}, step {done} "
                    f"(cross-entropy {losses.cross_entropy:.4g}, smooth L1 {losses.smooth_l1:.4g}); "
                    f"pictures: {', '.join(loader.names(batch))}; {checkpoints.advice()}"
                )
            for meter in (whole, recent):
                meter.add(losses, batch.data[0].shape[0], waited)
            events.progress(epoch, done, {"train/loss": losses.loss})
            if step % plan.log_every == 0:
                events.step(epoch, step, recent.values() | {"train/learning_rate": trainer.learning_rate})
                recent = Meter()
        row = whole.values() | {"train/learning_rate": trainer.learning_rate}
        if epoch % plan.validate_every == 0 or epoch == plan.epochs:
            row |= validate(epoch, step)
        events.epoch(epoch, step, row)
        checkpoints.save(epoch, trainer.params(), optimizer_states(trainer.module), row)


def timed(loader: Any) -> Iterator[tuple[Any, float]]:
    """One epoch's batches, each with the seconds it was waited for."""
    loader.reset()
    while True:
        asked = time.perf_counter()
        try:
            batch = loader.next()
        except StopIteration:
            return
        yield batch, time.perf_counter() - asked
