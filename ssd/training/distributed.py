"""Training by several workers: all begin with the parameters of worker 0, and sum their gradients in every step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ssd.checkpoint.model import Params
from ssd.checkpoint.param_file import read_arrays
from ssd.launch.coordinator import Coordinator
from ssd.mxnet_compat import mx
from ssd.training.losses import StepLosses
from ssd.training.train_state import TrainState
from ssd.utils.errors import UserError

LOSSES = "losses"  # its key in the store; gradients have numbers
NUMBERS = ("cross_entropy_sum", "anchors", "smooth_l1_sum", "positives")
ARRAYS = "arrays"  # a file

Wait = Callable[..., Any]  # see Coordinator.wait

_kept: list[Any] = []  # stores: one that is freed waits for all other workers, who may be gone


@dataclass(frozen=True)
class InitialState:
    """step: done before, by an earlier process; updates: those that changed the parameters; data: the training
    images' digest. Of arrays, "arg:" and "aux:" are parameters, "optimizer:" its state."""

    step: int
    updates: int
    data: str
    arrays: Params

    def group(self, name: str) -> Params:
        prefix = f"{name}:"
        return {key.removeprefix(prefix): array for key, array in self.arrays.items() if key.startswith(prefix)}


def broadcast_initial_state(lead: Coordinator, train_state: TrainState) -> None:
    """Worker 0: sends the others where its training stands, and shares its steps with them from here on."""
    trainer = train_state.trainer
    arg_params, aux_params = trainer.raw_params()
    groups = {"arg": arg_params, "aux": aux_params, "optimizer": trainer.state()["optimizer"]}
    arrays = {f"{group}:{name}": array for group, part in groups.items() for name, array in part.items()}
    facts = {"step": train_state.progress.step, "updates": trainer.updates, "data": train_state.data}
    lead.send_to_all(facts, _packed(arrays))
    trainer.exchange = GradientAllReduce(lead.share.rank, lead.share.workers, trainer.gradients, lead.wait)


def read_beginning(facts: dict[str, Any], content: bytes, data: str) -> InitialState:
    """What worker 0 tells. data: the digest of the images here. Errors: UserError when they are not worker 0's."""
    if facts["data"] != data:
        raise UserError("the training images or their objects differ from those of worker 0; dataset.root must "
                        "hold the same files on every machine")  # fmt: skip
    with TemporaryDirectory() as folder:
        file = Path(folder) / ARRAYS
        file.write_bytes(content)
        try:
            arrays = read_arrays(file, weights=False)
        except UserError as error:
            raise UserError(f"the parameters that worker 0 sent: {error}") from error
    return InitialState(facts["step"], facts["updates"], data, arrays)


def _packed(arrays: Params) -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / ARRAYS
        mx.nd.save(str(file), arrays)
        return file.read_bytes()


class GradientAllReduce:
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
