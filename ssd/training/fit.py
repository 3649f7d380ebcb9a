"""The training loop, and nothing else."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ssd.checkpoint.store import CALMER
from ssd.tracking.events import Events, Pruned
from ssd.training.keeper import Keeper
from ssd.training.monitor import Monitor
from ssd.training.progress import Meter
from ssd.utils.errors import DivergedError, InterruptedRun, UserError
from ssd.utils.signals import StopSignals

SKIPPING = f"{CALMER}; guard.non_finite=skip leaves such steps out"

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

    loader: start(epoch, batch) of an epoch counted from 0, next() until StopIteration, steps, and names(batch); it
    calls heed() while it waits.
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
        loader.heed = self.heed_signal  # its batches may be long in coming
        self._row: dict[str, float] | None = None  # of an epoch that is over and not saved

    def run(self, validate: Validate) -> str | None:
        """Returns why it ended before its epochs were over, or None.

        Errors: InterruptedRun after a signal, UserError when a guard stops, and all of what it calls; none of them is
        saved yet, see rescue().
        """
        keeper, progress, plan = self.keeper, self.keeper.progress, self.plan
        while progress.epochs < plan.epochs:
            if progress.step and (ended := keeper.guards.ended(progress.run.elapsed)):
                return ended
            epoch = progress.epochs + 1
            ended = self._epoch(epoch)
            row = progress.whole.values() | {"train/learning_rate": keeper.trainer.learning_rate}
            if epoch % plan.validate_every == 0 or epoch == plan.epochs or ended:
                row |= validate(epoch, progress.step)
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

    def rescue(self) -> int | None:
        """Saves what was learned up to the last whole step, whatever ended the training after it; returns the number of
        that step, None when there is none. Errors: as Keeper.rescue."""
        if not self.keeper.rescue(self.loader.steps, self._row):
            return None
        self.saved()
        return self.keeper.progress.step

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint on the disk."""
        return self.keeper.checkpoints.resumable

    def heed_signal(self) -> None:
        """Errors: InterruptedRun when a signal has come."""
        if self.signals.name:
            raise InterruptedRun(f"{self.signals.name}: stopped")

    def _epoch(self, epoch: int) -> str | None:
        """The steps of an epoch that are not done yet; returns why they end early, if they do."""
        keeper, progress = self.keeper, self.keeper.progress
        done = progress.step - progress.epochs * self.loader.steps
        if not done:
            progress.whole, progress.recent = Meter(), Meter()
        for batch, waited in timed(self.loader, epoch - 1, done):
            losses = self.monitor.step(batch, progress.step)
            wrong = keeper.guards.step(losses)
            if wrong and not losses.finite:  # the run is where it was before this step
                raise UserError(f"{self._named(wrong, epoch, progress.step + 1, batch)}; {SKIPPING}")
            progress.step, done = progress.step + 1, done + 1
            if losses.finite:
                for meter in (progress.whole, progress.recent):
                    meter.add(losses, self.loader.batch_size, waited)
            keeper.mark()
            if wrong:
                raise DivergedError(f"{self._named(wrong, epoch, progress.step, batch)}; {keeper.checkpoints.advice()}")
            if not losses.finite:
                log.warning(
                    "step %d skipped, number %d: loss or gradient is not finite; pictures: %s",
                    progress.step, keeper.guards.skipped, ", ".join(self.loader.names(batch)),
                )  # fmt: skip
            self.events.progress(epoch, done, {"train/loss": losses.loss})
            if progress.step % self.plan.log_every == 0:
                rate = {"train/learning_rate": keeper.trainer.learning_rate}
                row = progress.recent.values() | rate
                progress.recent = Meter()
                self.events.step(epoch, progress.step, row)
            if keeper.due() and done < self.loader.steps:
                self._save()
            self.heed_signal()
            if ended := keeper.guards.out_of_time(progress.run.elapsed):
                return ended
        return None

    def _named(self, wrong: str, epoch: int, step: int, batch: Any) -> str:
        return f"{wrong} in epoch {epoch}, step {step}; pictures: {', '.join(self.loader.names(batch))}"

    def _save(self, metrics: dict[str, float] | None = None) -> None:
        self._row = metrics
        self.keeper.save(self.loader.steps, metrics)
        self._row = None
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
