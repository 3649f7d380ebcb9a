"""The training loop, and nothing else: all that happens beside the steps is done by hooks."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from ssd.tracking.events import Events
from ssd.training.hook import Hook
from ssd.training.losses import StepLosses
from ssd.training.progress import Meter, Progress
from ssd.training.train_state import TrainState
from ssd.training.trainer import Probe


class TrainLoop:
    """Trains from where train_state.progress is, calling the hooks in their order, see Hook for what they find here."""

    def __init__(
        self, train_state: TrainState, loader: Any, epochs: int, hooks: Sequence[Hook], events: Events
    ) -> None:
        """loader: start(epoch, batch) of an epoch counted from 0, next() until StopIteration, steps, batch_size, and
        names(batch); it calls heed() while it waits."""
        self.train_state = train_state
        self.trainer = train_state.trainer
        self.loader = loader
        self.epochs = epochs
        self.hooks = list(hooks)
        self.events = events
        self.epoch = 0  # counted from 1
        self.batch: Any = None
        self.losses = StepLosses()
        self.probe: Probe | None = None  # of this step
        self.metrics: dict[str, float] = {}  # of this epoch
        self._stop: str | Exception | None = None

    def run(self) -> str | None:
        """Returns why it ended before its epochs were over, or None. Errors: those of hooks and steps; what is saved
        then, rescue.py says."""
        self._call("before_train")
        while self.progress.epochs < self.epochs and not self.stopping:
            self.epoch = self.progress.epochs + 1
            self._call("before_epoch")
            if not self.stopping:
                self._epoch()
        self._call("after_train")
        return self._stop if isinstance(self._stop, str) else None

    def _epoch(self) -> None:
        """The steps of an epoch that are not done yet, and its end."""
        progress = self.progress
        if not self.steps_done:
            progress.whole, progress.recent = Meter(), Meter()
        for batch, waited in timed_batches(self.loader, progress.epochs, self.steps_done):
            self.batch = batch
            self._step(waited)
            if self.stopping:
                break
        self.metrics = progress.whole.values() | {"train/learning_rate": self.trainer.learning_rate}
        self._call("end_epoch")
        if self.steps_done == self.loader.steps:  # else it was stopped
            progress.epochs = self.epoch
        self._call("after_epoch")
        if isinstance(self._stop, Exception):
            raise self._stop

    def _step(self, waited: float) -> None:
        self.probe = None
        self._call("before_step")
        self.losses = self.trainer.backward(self.batch, self.progress.step, self.probe)
        self._call("after_backward")
        if self.losses.finite:
            self.trainer.update(self.losses)
            self._call("after_update")
        self.trainer.end_step(self.losses)
        self.progress.count(self.losses, self.loader.batch_size, waited)
        self.train_state.mark()
        self._call("after_step")

    def stop(self, why: str | Exception) -> None:
        """Called by a hook: the training ends after this step or epoch, validated, logged and saved. It goes on to the
        report with a reason; an exception is raised, whatever other reason there is."""
        if not isinstance(self._stop, Exception):
            self._stop = why

    @property
    def stopping(self) -> bool:
        return self._stop is not None

    @property
    def progress(self) -> Progress:
        return self.train_state.progress

    @property
    def steps_done(self) -> int:
        """Of the epoch under way."""
        return self.progress.step - self.progress.epochs * int(self.loader.steps)

    def _call(self, method: str) -> None:
        for hook in self.hooks:
            getattr(hook, method)(self)


def timed_batches(loader: Any, epoch: int, batch: int) -> Iterator[tuple[Any, float]]:
    """The batches of an epoch (counted from 0) from a number on, each with the seconds it was waited for."""
    loader.start(epoch, batch)
    while True:
        asked = time.perf_counter()
        try:
            found = loader.next()
        except StopIteration:
            return
        yield found, time.perf_counter() - asked
