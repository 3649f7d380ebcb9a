"""The training loop, and nothing else."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ssd.errors import InterruptedRun, UserError
from ssd.tracking.events import Events, Pruned
from ssd.training.keeper import Keeper
from ssd.training.losses import StepLosses
from ssd.training.monitor import Monitor
from ssd.training.progress import Meter
from ssd.training.signals import StopSignals

log = logging.getLogger(__name__)

# Called with (epoch, step) after an epoch; returns what it measured, named val/….
Validate = Callable[[int, int], dict[str, float]]


@dataclass(frozen=True)
class Plan:
    """How long, how often the rest happens, and what of a validation says how good it is."""

    epochs: int
    log_every: int  # steps
    validate_every: int  # epochs
    metric: str


class Fit:
    """Trains from where keeper.progress is, validating and saving after each epoch.

    loader: start(epoch, batch) of an epoch counted from 0, next() until StopIteration, steps, and names(batch).
    saved: called after each checkpoint.
    """

    def __init__(
        self,
        keeper: Keeper,
        loader: Any,
        plan: Plan,
        events: Events,
        signals: StopSignals,
        saved: Callable[[], None],
    ) -> None:
        self.keeper = keeper
        self.loader = loader
        self.plan = plan
        self.events = events
        self.signals = signals
        self.saved = saved
        self.monitor = Monitor(keeper.trainer, events)

    def run(self, validate: Validate) -> str | None:
        """Returns why it ended before its epochs were over, or None.

        validate may raise InterruptedRun. Errors: InterruptedRun, saved, after a signal; UserError when a guard stops.
        """
        keeper, progress, plan = self.keeper, self.keeper.progress, self.plan
        while progress.epochs < plan.epochs:
            if progress.step and (ended := keeper.guards.ended(progress.run.elapsed)):
                return ended
            epoch = progress.epochs + 1
            ended = self._epoch(epoch)
            row = progress.whole.values() | {"train/learning_rate": keeper.trainer.learning_rate}
            if epoch % plan.validate_every == 0 or epoch == plan.epochs or ended:
                try:
                    row |= validate(epoch, progress.step)
                except InterruptedRun:
                    self._save()  # all of its steps are done, but the validation
                    raise
            pruned = self._told(epoch, row)
            keeper.guards.validated(row.get(plan.metric))
            if progress.step == epoch * self.loader.steps:  # else time ran out in it
                progress.epochs = epoch
            self._save(row)
            if pruned:
                raise pruned
            if ended:
                return ended
            self.heed_signal()
        return None

    def _told(self, epoch: int, row: dict[str, float]) -> Pruned | None:
        """Tells the epoch's numbers; returns the verdict of a writer that wants the run to end: it is saved before."""
        try:
            self.events.epoch(epoch, self.keeper.progress.step, row)
        except Pruned as verdict:
            return verdict
        return None

    def rescue(self) -> str:
        """Saves what the steps before one that failed have learned; returns where that is."""
        progress = self.keeper.progress
        if progress.step > progress.epochs * self.loader.steps:
            self._save()
        return f"saved after step {progress.step}" if progress.step else "nothing was learned yet"

    def heed_signal(self) -> None:
        """Errors: InterruptedRun when a signal has come."""
        if self.signals.name:
            raise InterruptedRun(f"{self.signals.name}: stopped and saved after step {self.keeper.progress.step}")

    def _epoch(self, epoch: int) -> str | None:
        """The steps of an epoch that are not done yet; returns why they end early, if they do."""
        keeper, progress = self.keeper, self.keeper.progress
        done = progress.step - progress.epochs * self.loader.steps
        if not done:
            progress.whole, progress.recent = Meter(), Meter()
        for batch, waited in timed(self.loader, epoch - 1, done):
            losses = self.monitor.step(batch, progress.step)
            progress.step, done = progress.step + 1, done + 1
            self._check(losses, epoch, batch)
            if losses.finite:
                for meter in (progress.whole, progress.recent):
                    meter.add(losses, self.loader.batch_size, waited)
            self.events.progress(epoch, done, {"train/loss": losses.loss})
            if progress.step % self.plan.log_every == 0:
                rate = {"train/learning_rate": keeper.trainer.learning_rate}
                self.events.step(epoch, progress.step, progress.recent.values() | rate)
                progress.recent = Meter()
            if self.signals.name or (keeper.due() and done < self.loader.steps):
                self._save()
            self.heed_signal()
            if ended := keeper.guards.out_of_time(progress.run.elapsed):
                return ended
        return None

    def _check(self, losses: StepLosses, epoch: int, batch: Any) -> None:
        keeper = self.keeper
        if wrong := keeper.guards.step(losses):
            raise UserError(
                f"{wrong} in epoch {epoch}, step {keeper.progress.step}; "
                f"pictures: {', '.join(self.loader.names(batch))}; {keeper.checkpoints.advice()}"
            )
        if not losses.finite:
            log.warning(
                "step %d skipped, number %d: loss or gradient is not finite; pictures: %s",
                keeper.progress.step, keeper.guards.skipped, ", ".join(self.loader.names(batch)),
            )  # fmt: skip

    def _save(self, metrics: dict[str, float] | None = None) -> None:
        self.keeper.save(self.loader.steps, metrics)
        self.saved()


def timed(loader: Any, epoch: int, batch: int) -> Iterator[tuple[Any, float]]:
    """The batches of an epoch (counted from 0) from a number on, each with the seconds it was waited for."""
    loader.start(epoch, batch)
    while True:
        asked = time.perf_counter()
        try:
            found = loader.next()
        except StopIteration:
            return
        yield found, time.perf_counter() - asked
