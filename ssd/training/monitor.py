"""Histograms of weights, gradients and activations, for the loggers that want them."""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ssd.mxnet_compat import mx
from ssd.tracking.events import Events
from ssd.training.fit import TrainLoop
from ssd.training.hook import Hook
from ssd.training.module_adapter import ModuleAdapter
from ssd.training.trainer import Probe, Trainer

log = logging.getLogger(__name__)

HISTOGRAM_SAMPLES = 65_536  # values of an array, of which a histogram looks like that of all
WEIGHTS, GRADIENTS, ACTIVATIONS = "weights", "gradients", "activations"


class Monitor(Hook):
    """Gives loggers histograms, in the steps in which one wants them: such a step goes through a second module.

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
        self._patterns: list[re.Pattern[str]] = []  # wanted in this step
        self._shown: dict[str, list[np.ndarray]] = {}

    def before_step(self, loop: TrainLoop) -> None:
        self._patterns = self._events.wants_histograms(loop.progress.step + 1)
        if not self._patterns:
            return
        self._warn(self._patterns)
        activations = tuple(chosen(ACTIVATIONS, self._operations, self._patterns))
        self._shown = {name: [] for name in activations}
        loop.probe = Probe(self._module(self._trainer.module_for(loop.batch), activations), self._show)

    def after_backward(self, loop: TrainLoop) -> None:
        """The gradients and activations of the step; weights, too, where these are not finite: they stay."""
        if not self._patterns:
            return
        step = loop.progress.step + 1
        for name, samples in self._shown.items():
            self._tell(ACTIVATIONS, name, np.concatenate(samples), step)
        scale = np.float32(self._trainer.gradient_scale(loop.losses))
        gradients = self._trainer.module.gradients
        for name in chosen(GRADIENTS, gradients, self._patterns):
            devices = gradients[name][:1] if self._trainer.exchange else gradients[name]  # which has summed them
            self._tell(GRADIENTS, name, sample(summed(devices)) * scale, step)
        if not loop.losses.finite:
            self._weights(step)

    def after_step(self, loop: TrainLoop) -> None:
        """The weights that the step has made."""
        if loop.losses.finite:
            self._weights(loop.progress.step)

    def _weights(self, step: int) -> None:
        weights = self._trainer.module.weights
        for name in chosen(WEIGHTS, weights, self._patterns):
            self._tell(WEIGHTS, name, sample(weights[name][0]), step)

    def _show(self, outputs: list[list[Any]]) -> None:
        for samples, devices in zip(self._shown.values(), outputs, strict=True):
            samples += map(sample, devices)

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
    """Values of an array, float32 [N]: all of them, or HISTOGRAM_SAMPLES from places drawn once for all
    arrays of the size."""
    flat = array.reshape((-1,))
    if array.size > HISTOGRAM_SAMPLES:
        # At random, not every n-th: that could be the same column of every image.
        places = np.random.default_rng(array.size).integers(0, array.size, HISTOGRAM_SAMPLES)
        flat = flat.take(mx.nd.array(places, ctx=array.context, dtype="int64"))
    return flat.asnumpy().astype(np.float32)
