"""A running training's way into checkpoints and back: what belongs to its state, and when it is saved."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssd.checkpoint.store import Checkpoints, LoadedCheckpoint, TrainPosition
from ssd.training.hook import Hook, plain_state
from ssd.training.progress import ARRAY, Progress, count_of, pack, unpack
from ssd.training.state import random_state, restore_random
from ssd.training.trainer import Trainer
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SaveInterval:
    """When a checkpoint is written in the middle of an epoch, too; None: not for this reason."""

    steps: int | None
    minutes: float | None


class TrainState:
    """Saves and restores `trainer`, the states of `hooks` by name, the random generators and `progress`.

    data: a digest of the images the batches are of; with others a run cannot be resumed.
    """

    def __init__(
        self, trainer: Trainer, hooks: Mapping[str, Hook], checkpoints: Checkpoints, often: SaveInterval, data: str
    ) -> None:
        self.trainer = trainer
        self.hooks = hooks
        self.checkpoints = checkpoints
        self.progress = Progress()
        self._often = often
        self.data = data
        self._saved_at = time.monotonic()
        self._saved_step: tuple[int, int] | None = None  # (epochs, step) of the last checkpoint
        self.mark()

    def mark(self) -> None:
        """Called when the state is that of whole steps: what a rescue saves, whatever is begun after it."""
        self._random = random_state()

    def rescue(self, steps: int, metrics: dict[str, float] | None) -> bool:
        """Saves the state of the last whole step, unless it is saved; returns whether there is anything to resume.

        steps, metrics: see save(). Errors: UserError when a step has failed amid changing the parameters, or the
        checkpoint cannot be written.
        """
        progress = self.progress
        if not progress.step:
            return False
        if self._saved_step != (progress.epochs, progress.step) or self.checkpoints.gone():
            try:
                self.trainer.undo()
            except UserError as error:
                raise UserError(f"{error}; {self.checkpoints.what_is_saved()}") from error
            restore_random(self._random)
            self.save(steps, metrics)
        return True

    def should_save(self) -> bool:
        """Whether it is time to save after this step."""
        steps, minutes = self._often.steps, self._often.minutes
        if steps is not None and self.progress.step % steps == 0:
            return True
        return minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def save(self, steps: int, metrics: dict[str, float] | None = None) -> None:
        """steps: of an epoch. metrics: of an epoch that has just ended."""
        progress = self.progress
        self.mark()
        facts = {
            "progress": progress.to_json(),
            "hooks": self._states(),
            "random": self._random,
            "updates": self.trainer.updates,
            "data": self.data,
        }
        states = {
            f"{group}/{name}": array for group, part in self.trainer.state().items() for name, array in part.items()
        }
        position = TrainPosition(progress.epochs, progress.step - progress.epochs * steps, progress.step)
        self.checkpoints.save(position, self.trainer.params(), {**states, ARRAY: pack(facts)}, metrics)
        self._saved_at, self._saved_step = time.monotonic(), (progress.epochs, progress.step)

    def _states(self) -> dict[str, Any]:
        states = {name: plain_state(name, hook) for name, hook in self.hooks.items()}
        return {name: state for name, state in states.items() if state}

    def _restore_states(self, states: dict[str, Any]) -> None:
        for name in states.keys() - self.hooks.keys():
            log.warning("the checkpoint has a state of %s, which is not part of this run: it is left out", name)
        for name, hook in self.hooks.items():
            if name in states:
                hook.load_state_dict(states[name])

    def restore(self, saved: LoadedCheckpoint, steps: int) -> None:
        """Puts everything back but the parameters, which the trainer has started with. steps: of an epoch.

        Errors: UserError for a checkpoint of other images, of another version of this program, or that is damaged.
        """
        facts = unpack(saved.states[ARRAY]) if ARRAY in saved.states else {}
        groups: dict[str, dict[str, Any]] = {}
        for name, array in saved.states.items():
            group, slash, rest = name.partition("/")
            if slash:
                groups.setdefault(group, {})[rest] = array
        try:
            if facts["data"] != self.data:
                raise UserError(
                    f"{self.checkpoints.folder.parent}: the training images or their objects are no longer those "
                    "this run was trained on; start a new run"
                )
            self.progress = progress = Progress.from_json(facts["progress"])
            if not progress.epochs * steps <= progress.step <= (progress.epochs + 1) * steps:
                raise ValueError(f"{progress.step} steps are not those of {progress.epochs} epochs")
            # Until version 0.2 guards were all that had a state.
            self._restore_states(facts["hooks"] if "hooks" in facts else {"guards": facts["guards"]})
            self.trainer.restore(groups, count_of(facts["updates"], progress.step), saved.params)
            restore_random(facts["random"])
            self._saved_step = (self.progress.epochs, self.progress.step)
            self.mark()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self.checkpoints.folder}: its checkpoint is damaged, or of another version ({error!r})"
            ) from error
