"""The hooks that connect a training with the rest of a run: validation, loggers, checkpoints and signals."""

import logging
from collections.abc import Callable

from ssd.tracking.events import Pruned
from ssd.training.fit import TrainLoop
from ssd.training.hook import Hook
from ssd.training.progress import Meter
from ssd.training.train_state import TrainState
from ssd.utils.errors import InterruptedRun
from ssd.utils.signals import StopSignals

# Called after an epoch; returns what it measured, named val/….
Validate = Callable[[TrainLoop], dict[str, float]]

log = logging.getLogger(__name__)


class Validation(Hook):
    """Measures after every `every` epochs, after the last one, and where the training is stopped."""

    def __init__(self, validate: Validate, every: int) -> None:
        self._validate = validate
        self._every = every

    def end_epoch(self, loop: TrainLoop) -> None:
        if loop.epoch % self._every == 0 or loop.epoch == loop.epochs or loop.stopping:
            loop.metrics |= self._validate(loop)


class JointSpeed(Hook):
    """Logs how fast all workers are together, after every epoch."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def end_epoch(self, loop: TrainLoop) -> None:
        speed = loop.metrics["train/images_per_second"]
        log.info("epoch %d: %.1f images/s by %d workers together", loop.epoch, speed, self._workers)


class Tracking(Hook):
    """Gives loggers the numbers of every step, the means of every `every` steps, and those of epochs."""

    def __init__(self, every: int) -> None:
        self._every = every

    def after_step(self, loop: TrainLoop) -> None:
        progress = loop.progress
        loop.events.progress(loop.epoch, loop.steps_done, {"train/loss": loop.losses.loss})
        if progress.step % self._every == 0:
            row = progress.recent.values() | {"train/learning_rate": loop.trainer.learning_rate}
            progress.recent = Meter()
            loop.events.step(loop.epoch, progress.step, row)

    def end_epoch(self, loop: TrainLoop) -> None:
        """The verdict of a logger that wants the run to end: it is saved before."""
        try:
            loop.events.epoch(loop.epoch, loop.progress.step, loop.metrics)
        except Pruned as verdict:
            loop.stop(verdict)


class Checkpointing(Hook):
    """Saves after every epoch, in between at the interval of the train state, and what an error leaves, see rescue().

    saved: called after each checkpoint.
    """

    def __init__(self, train_state: TrainState, steps: int, saved: Callable[[], None]) -> None:
        """steps: of an epoch."""
        self._train_state = train_state
        self._steps = steps
        self._saved = saved
        self._row: dict[str, float] | None = None  # of an epoch that is over and not saved

    def after_step(self, loop: TrainLoop) -> None:
        if self._train_state.should_save() and loop.steps_done < self._steps:
            self._save()

    def after_epoch(self, loop: TrainLoop) -> None:
        self._save(loop.metrics)

    def rescue(self) -> int | None:
        """Saves what was learned up to the last whole step, whatever ended the training after it; returns the number of
        that step, None when there is none. Errors: as TrainState.rescue."""
        if not self._train_state.rescue(self._steps, self._row):
            return None
        self._saved()
        return self._train_state.progress.step

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint on the disk."""
        return self._train_state.checkpoints.resumable

    def _save(self, metrics: dict[str, float] | None = None) -> None:
        self._row = metrics
        self._train_state.save(self._steps, metrics)
        self._row = None
        self._saved()


class Signals(Hook):
    """Ends the training after the step, or amid a validation, in which a signal has come."""

    def __init__(self, signals: StopSignals) -> None:
        self._signals = signals

    def before_train(self, loop: TrainLoop) -> None:
        loop.loader.heed = self.heed  # its batches may be long in coming

    def after_step(self, loop: TrainLoop) -> None:
        self.heed()

    def after_epoch(self, loop: TrainLoop) -> None:
        if not loop.stopping:
            self.heed()

    def heed(self) -> None:
        """Errors: InterruptedRun when a signal has come."""
        if self._signals.name:
            raise InterruptedRun(f"{self._signals.name}: stopped")
