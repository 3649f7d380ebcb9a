"""Training steps whose weights, gradients and activations are told to whoever wants their histograms."""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ssd.mxnet_compat import mx
from ssd.tracking.events import Events
from ssd.training.losses import StepLosses
from ssd.training.module_adapter import ModuleAdapter
from ssd.training.trainer import Trainer

log = logging.getLogger(__name__)

ENOUGH = 65_536  # values of an array, of which a histogram looks like that of all
WEIGHTS, GRADIENTS, ACTIVATIONS = "weights", "gradients", "activations"


class Monitor:
    """Does the steps of a trainer; those at which somebody wants histograms, through a second Module.

    It shares parameters and gradients with the trainer's and also outputs the activations wanted, so that they are
    those of this very step, and that all other steps cost what they cost without.
    """

    def __init__(self, trainer: Trainer, events: Events) -> None:
        self._trainer = trainer
        self._events = events
        self._parameters = trainer.module.parameters
        self._operations = operations(trainer.symbol)
        self._modules: dict[tuple[ModuleAdapter, tuple[str, ...]], ModuleAdapter] = {}  # by what they extend
        self._fruitless: set[str] = set()

    def step(self, batch: Any, number: int) -> StepLosses:
        """As `Trainer.step`; tells the weights after the step, the gradients and activations that led to it.

        number: of the steps before this one.
        """
        step = number + 1
        patterns = self._events.wants_histograms(step)
        if not patterns:
            return self._trainer.step(batch, number)
        self._warn(patterns)
        activations = tuple(chosen(ACTIVATIONS, self._operations, patterns))
        module = self._module(self._trainer.module_for(batch), activations)
        shown: dict[str, list[np.ndarray]] = {name: [] for name in activations}

        def show(outputs: list[list[Any]]) -> None:
            for name, devices in zip(activations, outputs, strict=True):
                shown[name] += map(sample, devices)

        losses = self._trainer.backward(batch, number, module, show)
        for name, samples in shown.items():
            self._tell(ACTIVATIONS, name, np.concatenate(samples), step)
        scale = np.float32(self._trainer.gradient_scale(losses))
        gradients = self._trainer.module.gradients
        for name in chosen(GRADIENTS, gradients, patterns):
            devices = gradients[name][:1] if self._trainer.exchange else gradients[name]  # which has summed them
            self._tell(GRADIENTS, name, sample(summed(devices)) * scale, step)
        self._trainer.update(losses)
        weights = self._trainer.module.weights
        for name in chosen(WEIGHTS, weights, patterns):
            self._tell(WEIGHTS, name, sample(weights[name][0]), step)
        return losses

    def _tell(self, kind: str, name: str, values: np.ndarray, step: int) -> None:
        self._events.histogram(f"{kind}/{name}", values, step)

    def _module(self, module: ModuleAdapter, activations: tuple[str, ...]) -> ModuleAdapter:
        key = (module, activations)
        if key not in self._modules:
            found = operations(module.symbol)
            # Of training.precision some have 16 bits.
            outputs = [mx.sym.amp_cast(mx.sym.BlockGrad(found[name]), dtype="float32") for name in activations]
            self._modules[key] = module.extended(outputs)
        return self._modules[key]

    def _warn(self, patterns: Sequence[re.Pattern[str]]) -> None:
        """Of a pattern that finds nothing, once."""
        tags = [f"{kind}/{name}" for kind in (WEIGHTS, GRADIENTS) for name in self._parameters]
        tags += [f"{ACTIVATIONS}/{name}" for name in self._operations]
        for pattern in patterns:
            if pattern.pattern not in self._fruitless and not any(map(pattern.search, tags)):
                self._fruitless.add(pattern.pattern)
                log.warning("no array matches %r; they are named like %s, %s", pattern.pattern, tags[0], tags[-1])


def operations(symbol: Any) -> dict[str, Any]:
    """Outputs of the operations of a graph: name -> symbol. "conv1" is the only output of that operation; one of
    several has its number in its name ("multibox_target_loc_mask")."""
    variables = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    internals = symbol.get_internals()
    names = [name for name in internals.list_outputs() if name not in variables]
    return {name.removesuffix("_output"): internals[name] for name in names}


def chosen(kind: str, names: Iterable[str], patterns: Sequence[re.Pattern[str]]) -> list[str]:
    """The names that a pattern finds in kind/name."""
    return [name for name in names if any(pattern.search(f"{kind}/{name}") for pattern in patterns)]


def summed(devices: Sequence[Any]) -> Any:
    """Sum of the same array on several devices, on the first."""
    total = devices[0]
    for array in devices[1:]:
        total = total + array.as_in_context(total.context)
    return total


def sample(array: Any) -> np.ndarray:
    """Values of an array, float32 [N]: all of them, or ENOUGH from places drawn once for all arrays of the size."""
    flat = array.reshape((-1,))
    if array.size > ENOUGH:
        # At random, not every n-th: that could be the same column of every picture.
        places = np.random.default_rng(array.size).integers(0, array.size, ENOUGH)
        flat = flat.take(mx.nd.array(places, ctx=array.context, dtype="int64"))
    return flat.asnumpy().astype(np.float32)
