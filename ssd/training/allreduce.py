"""Sums over all workers, by MXNet's parameter servers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ssd.mxnet_compat import mx
from ssd.training.losses import StepLosses

LOSSES = "losses"  # its key in the store; gradients have numbers
NUMBERS = ("cross_entropy_sum", "anchors", "smooth_l1_sum", "positives")

Wait = Callable[..., Any]  # see Lead.wait

_kept: list[Any] = []  # stores: one that is freed waits for all other workers, who may be gone


class Exchange:
    """Gradients and losses of a step, each replaced by its sum over all devices of all workers.

    The servers only add; every worker takes the optimizer's step by itself, all the same one from equal parameters.
    Sums of two workers do not depend on which of them is first; those of more differ in the last digits from run to
    run.
    """

    def __init__(self, rank: int, workers: int, gradients: Sequence[Sequence[Any]], wait: Wait) -> None:
        """Returns when all workers have come to here. gradients: [parameter][device], of the same network everywhere.

        wait(function, what): calls it, and gives up when a worker is lost.
        """
        self.rank, self.workers = rank, workers
        self._wait = wait
        self._store = wait(lambda: mx.kv.create("dist_sync"), "meeting the parameter servers")
        _kept.append(self._store)
        self._losses = mx.nd.zeros((4,))
        self._keys = [LOSSES, *map(str, range(len(gradients)))]
        shapes = [self._losses.shape, *(devices[0].shape for devices in gradients)]
        wait(lambda: self._store.init(self._keys, [mx.nd.zeros(shape) for shape in shapes]))

    def sum(self, losses: StepLosses, gradients: Sequence[Sequence[Any]]) -> StepLosses:
        """gradients are summed in place; of the losses, everything but the divisor."""
        self._losses[:] = mx.nd.array([getattr(losses, name) for name in NUMBERS])
        arrays = [[self._losses], *map(list, gradients)]
        self._store.push(self._keys, arrays)
        self._store.pull(self._keys, arrays)
        self._wait(lambda: [array.wait_to_read() for devices in arrays for array in devices])
        return replace(losses, **dict(zip(NUMBERS, self._losses.asnumpy().astype(float).tolist(), strict=True)))
