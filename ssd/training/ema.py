"""Exponential moving average of a network's weights and batch statistics (Polyak & Juditsky 1992, as used today)."""

from typing import TYPE_CHECKING, Any

from ssd.checkpoint.model import Params
from ssd.mxnet_compat import mx
from ssd.training.hook import Hook
from ssd.training.module_adapter import ModuleAdapter

if TYPE_CHECKING:
    from ssd.training.fit import TrainLoop

AT_ONCE = 40  # arrays averaged by one operator


class Ema(Hook):
    """arrays: "arg:name" and "aux:name" -> the average, on the first device. They are the whole state: the number of
    updates is the optimizer's. A checkpoint has them as its parameters, so state_dict has nothing."""

    def __init__(self, module: ModuleAdapter, decay: float) -> None:
        self._decay = decay
        self.arrays: Params = {name: devices[0].copy() for name, devices in _arrays(module).items()}

    def after_update(self, loop: "TrainLoop") -> None:
        self.update(loop.trainer.module, loop.trainer.updates)

    def update(self, module: ModuleAdapter, updates: int) -> None:
        """After the `updates`-th update of the module's parameters, counted from 1."""
        # An average over as many steps as there were, at first: what the weights began with is soon forgotten.
        rate = 1 - min(self._decay, (1 + updates) / (10 + updates))
        current = _arrays(module)
        names = list(self.arrays)
        for first in range(0, len(names), AT_ONCE):
            pairs: list[Any] = []
            for name in names[first : first + AT_ONCE]:
                pairs += [self.arrays[name], _mean(current[name], self.arrays[name].context)]
            count = len(pairs) // 2
            # A step of SGD with weight decay 1 against the weights is average - rate * (average - weights), in place.
            mx.nd.multi_sgd_update(
                *pairs, lrs=[rate] * count, wds=[1.0] * count, rescale_grad=-1.0, num_weights=count, out=pairs[::2]
            )

    def params(self) -> tuple[Params, Params]:
        """(arg_params, aux_params) on the CPU, copies."""
        split: dict[str, Params] = {"arg:": {}, "aux:": {}}
        for name, array in self.arrays.items():
            split[name[:4]][name[4:]] = array.copyto(mx.cpu())
        return split["arg:"], split["aux:"]

    def restore(self, arg_params: Params, aux_params: Params) -> None:
        """Goes on from what params() were. Errors: KeyError, ValueError for those of another network."""
        saved = {f"arg:{name}": array for name, array in arg_params.items()}
        saved |= {f"aux:{name}": array for name, array in aux_params.items()}
        for name, array in self.arrays.items():
            if saved[name].shape != array.shape:
                raise ValueError(f"{name} has shape {saved[name].shape}, expected {array.shape}")
            saved[name].copyto(array)


def _arrays(module: ModuleAdapter) -> dict[str, list[Any]]:
    """Of every device; weights are the same on all, statistics of batch normalizations are not."""
    arrays = {f"arg:{name}": part for name, part in module.weights.items()}
    return arrays | {f"aux:{name}": part for name, part in module.statistics.items()}


def _mean(devices: list[Any], context: Any) -> Any:
    if len(devices) == 1:
        return devices[0]
    return sum(array.as_in_context(context) for array in devices) / len(devices)
