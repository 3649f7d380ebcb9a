"""What takes part in a training beside its steps: the base class of the program's own hooks and of those of users."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ssd.config.targets import make_all
from ssd.utils.errors import UserError

if TYPE_CHECKING:
    from ssd.training.fit import TrainLoop


class Hook:
    """Takes part in a training. Override any of these methods; none does anything by itself.

    A hook of your own is a class that Python can import from the working directory:

        from ssd.training.hook import Hook

        class SmoothLoss(Hook):
            '''Adds a moving average of the loss to the numbers of an epoch.'''

            def __init__(self, decay: float = 0.9) -> None:
                self.decay, self.mean = decay, None

            def after_step(self, loop):
                loss = loop.losses.loss
                self.mean = loss if self.mean is None else self.decay * self.mean + (1 - self.decay) * loss

            def end_epoch(self, loop):
                loop.metrics["train/smooth_loss"] = self.mean

            def state_dict(self):
                return {"mean": self.mean}

            def load_state_dict(self, state):
                self.mean = state["mean"]

    It is named on the command line, by any name, with the arguments of its constructor:

        python -m ssd.run +hooks.smooth._target_=my_module.SmoothLoss +hooks.smooth.decay=0.99

    Order: validation, histograms, guards, the moving average of weights, your hooks as they are configured, loggers,
    checkpoints, signals. `loop` is the ssd.training.fit.TrainLoop: loop.trainer, loop.progress.step (steps done),
    loop.epoch (from 1), loop.batch and loop.losses of the step, loop.metrics of the epoch, loop.events for loggers and
    loop.stop() to end the training. Of several workers, only worker 0 has hooks: they must not change parameters.

    An error in a hook ends the training, once the last whole step is saved. What raises before `after_step` or
    `after_epoch` is repeated after a resume, so change a state that is saved in those two alone.
    """

    def before_train(self, loop: "TrainLoop") -> None:
        """Before the first step of this process; a resumed state is loaded."""

    def before_epoch(self, loop: "TrainLoop") -> None:
        """Before an epoch, or the rest of one after a resume. loop.stop() ends the training without this epoch."""

    def before_step(self, loop: "TrainLoop") -> None:
        """loop.batch is to be trained on. A hook may set loop.probe, to be shown more outputs of the network."""

    def after_backward(self, loop: "TrainLoop") -> None:
        """Losses and gradients are there, parameters are as before the step."""

    def after_update(self, loop: "TrainLoop") -> None:
        """The parameters have changed; not called in a step that is not finite, in which they stay. An error in here
        costs all steps since the last checkpoint."""

    def after_step(self, loop: "TrainLoop") -> None:
        """The step is done and counted in loop.progress. loop.stop() ends the epoch here, with a validation."""

    def end_epoch(self, loop: "TrainLoop") -> None:
        """All steps of the epoch are done, it is not counted yet: what is put into loop.metrics is logged."""

    def after_epoch(self, loop: "TrainLoop") -> None:
        """The epoch is validated, logged and counted. It is saved after the hooks of users were called."""

    def after_train(self, loop: "TrainLoop") -> None:
        """The epochs are over, or a hook has stopped the training; no error has ended it."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption, as JSON has it: str keys; str, numbers, bool, None, lists, dicts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what state_dict gave. Not called where a checkpoint has no state of this hook."""


def make_hooks(configured: Mapping[str, Any]) -> dict[str, Hook]:
    """The hooks of `cfg.hooks` (name -> {_target_, options}), as "hooks.name". Errors: UserError naming the entry that
    is not a hook, has a wrong option, or a state that cannot be saved."""
    complaint = "is not a hook: it needs a _target_ that makes an ssd.training.hook.Hook"
    made = make_all(configured, "hooks", Hook, complaint)
    hooks = {f"hooks.{name}": hook for name, hook in made.items()}
    for name, hook in hooks.items():
        plain_state(name, hook)
    return hooks


def plain_state(name: str, hook: Hook) -> dict[str, Any]:
    """Its state_dict. Errors: UserError for one that a checkpoint cannot hold."""
    state = hook.state_dict()
    try:
        json.dumps(state)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: its state_dict() must be what JSON can hold ({error})") from error
    return state
