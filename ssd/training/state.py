"""What a Module and the random generators know beyond the parameters, as plain arrays and numbers: no pickle."""

import json
import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssd.checkpoint.model import Params
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

# Operators that draw random numbers, as the graph names them.
DRAWING = re.compile(r"Dropout|LeakyReLU|.*(random|sample|shuffle|bernoulli)", re.IGNORECASE)


def optimizer_states(module: Any) -> Params:
    """The optimizer's arrays (momentum, …) as "parameter:slot" -> array. Devices hold the same, so one of each."""
    updater = _updater(module)
    names = updater.optimizer.idx2name
    arrays: Params = {}
    for index, state in updater.states.items():
        slots = state if isinstance(state, (tuple, list)) else (state,)
        name = names.get(index, str(index))
        arrays |= {f"{name}:{slot}": array for slot, array in enumerate(slots) if array is not None}
    return arrays


def restore_optimizer(module: Any, arrays: Params, updates: int) -> None:
    """Puts back what optimizer_states gave, and the number of updates that schedules and Adam count.

    Wherever the optimizer runs: on the devices, or on the key-value store of several. Errors: UserError for arrays that
    do not fit.
    """
    updater = _updater(module)
    optimizer = updater.optimizer
    optimizer.begin_num_update = optimizer.num_update = updates
    group = module._exec_group
    devices = len(group.contexts)
    for place, (name, weights, gradients) in enumerate(
        zip(group.param_names, group.param_arrays, group.grad_arrays, strict=True)
    ):
        if gradients[0] is None or f"{name}:0" not in arrays:  # frozen, or never updated
            continue
        keys = [name] if module._update_on_kvstore else [place * devices + device for device in range(devices)]
        for key, weight in zip(keys, weights, strict=False):
            made = optimizer.create_state_multi_precision(key, weight)
            slots = made if isinstance(made, (tuple, list)) else (made,)
            for slot, array in enumerate(slots):
                _fill(array, arrays, f"{name}:{slot}")
            updater.states[key] = made
            updater.states_synced[key] = False  # the store may keep it elsewhere


def _fill(array: Any, arrays: Params, name: str) -> None:
    if array is None and name not in arrays:
        return
    if array is None or name not in arrays or arrays[name].shape != array.shape:
        raise UserError(f"optimizer state {name} of the checkpoint does not fit this optimizer and network")
    arrays[name].copyto(array)


def _updater(module: Any) -> Any:
    return module._kvstore._updater if module._update_on_kvstore else module._updater


def device_statistics(module: Any) -> Params:
    """BatchNorm's running statistics of each of several devices, "name:device" -> array; parameters hold the mean."""
    group = module._exec_group
    if len(group.contexts) == 1:
        return {}
    return {
        f"{name}:{device}": array
        for name, arrays in zip(group.aux_names, group.aux_arrays, strict=True)
        for device, array in enumerate(arrays)
    }


def restore_device_statistics(module: Any, arrays: Params) -> None:
    """Puts back what device_statistics gave; with another number of devices each goes on from the mean."""
    here = device_statistics(module)
    if here.keys() == arrays.keys():
        for name, array in arrays.items():
            array.copyto(here[name])


def all_finite(arrays: Sequence[Any]) -> bool:
    """Whether no element of any array is nan or infinite, judged by their sums of squares: gradients whose squares
    overflow are as useless.

    Waits for the arrays. Of 9.5 million floats in 126 arrays on a CPU: 2 ms where they lie, 7 ms by copies and by
    MXNet's dot products, while its own multi_all_finite needs 240 ms; on a GPU the numbers stay there.
    """
    if arrays[0].context.device_type == "cpu":
        flat = (np.from_dlpack(_InPlace(array)).ravel() for array in arrays)
        return all(np.isfinite(np.dot(values, values)) for values in flat)
    return bool(np.isfinite(mx.nd.multi_sum_sq(*arrays, num_arrays=len(arrays)).asnumpy()).all())


class _InPlace:
    """An array as NumPy takes it over without copying."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **_: Any) -> Any:
        return self._array.to_dlpack_for_read()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # memory of the CPU


def draws(symbol: Any) -> bool:
    """Whether the graph has an operator that draws random numbers."""
    return any(DRAWING.match(node["op"]) for node in json.loads(symbol.tojson())["nodes"])


def random_state() -> dict[str, Any]:
    """Of Python's and NumPy's global generators, as JSON knows it. MXNet does not tell its own: the trainer seeds that
    one anew in every step, where the graph draws from it."""
    version, words, gauss = random.getstate()
    kind, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    return {"python": [version, list(words), gauss], "numpy": [kind, keys.tolist(), place, has_gauss, cached]}  # type: ignore[union-attr]


def restore_random(state: dict[str, Any]) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, place, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), place, has_gauss, cached))
