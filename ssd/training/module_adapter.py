"""mx.mod.Module with public names for what training needs of it and MXNet 1.9.1 keeps private."""

import logging
from collections.abc import Sequence
from typing import Any

from ssd.checkpoint.model import Params
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)


class ModuleAdapter:
    """A network on one or several devices, its gradients and its optimizer.

    Everything else goes through here: no other file reads a private name of MXNet's Module. "On each device" means a
    list of NDArrays, one per device and in their order.
    """

    def __init__(self, module: Any) -> None:
        self.module = module

    @classmethod
    def create(
        cls, symbol: Any, data_names: Sequence[str], label_names: Sequence[str], devices: Sequence[Any],
        frozen: Sequence[str],
    ) -> "ModuleAdapter":  # fmt: skip
        """Unbound. frozen: names of parameters without a gradient."""
        return cls(
            mx.mod.Module(
                symbol, data_names=data_names, label_names=label_names, context=list(devices),
                fixed_param_names=list(frozen), logger=log,
            )
        )  # fmt: skip

    def bind(
        self, data: Sequence[Any], label: Sequence[Any], shared: "ModuleAdapter | None" = None, add: bool = False
    ) -> None:
        """data, label: mx.io.DataDesc of each input. shared: parameters, gradients and optimizer are those of this one.
        add: gradients are added to what is there instead of replacing it."""
        self.module.bind(data, label, shared_module=shared and shared.module, grad_req="add" if add else "write")

    def extended(self, outputs: Sequence[Any]) -> "ModuleAdapter":
        """A second, bound one of the same arrays, with these symbols as outputs behind its own."""
        module = self.module
        second = ModuleAdapter.create(
            mx.sym.Group([*module.symbol, *outputs]), module.data_names, module.label_names, self.devices,
            module._fixed_param_names,
        )  # fmt: skip
        second.bind(module.data_shapes, module.label_shapes, self, add=module._grad_req == "add")
        return second

    @property
    def symbol(self) -> Any:
        return self.module.symbol

    @property
    def devices(self) -> list[Any]:
        return list(self._group.contexts)

    @property
    def parameters(self) -> list[str]:
        """Names, without those of BatchNorm's running statistics."""
        return list(self.module._param_names)

    @property
    def weights(self) -> dict[str, list[Any]]:
        """Parameter -> its arrays on each device, which hold the same."""
        return dict(zip(self._group.param_names, self._group.param_arrays, strict=True))

    @property
    def statistics(self) -> dict[str, list[Any]]:
        """BatchNorm's running statistic -> its arrays on each device, which differ."""
        return dict(zip(self._group.aux_names, self._group.aux_arrays, strict=True))

    @property
    def gradients(self) -> dict[str, list[Any]]:
        """Parameter -> its gradients on each device; none of a frozen one."""
        pairs = zip(self._group.param_names, self._group.grad_arrays, strict=True)
        return {name: list(devices) for name, devices in pairs if devices[0] is not None}

    def init_params(self, initializer: Any, arg_params: Params, aux_params: Params) -> None:
        """Those given are copied, the initializer makes the rest. Others are ignored."""
        self.module.init_params(
            initializer, arg_params=arg_params, aux_params=aux_params, allow_missing=True, allow_extra=True
        )
        if len(self.devices) == 1 and self.devices[0].device_type == "cpu":
            self._share_executor_params()

    def set_params(self, arg_params: Params, aux_params: Params) -> None:
        self.module.set_params(arg_params, aux_params)

    def get_params(self) -> tuple[Params, Params]:
        """(arg_params, aux_params) on the CPU, on a single CPU the very arrays; statistics averaged over devices."""
        return self.module.get_params()  # type: ignore[no-any-return]

    def forward_backward(self, batch: Any) -> None:
        self.module.forward_backward(batch)

    def outputs(self) -> list[list[Any]]:
        """[output][device] of the last forward pass."""
        return self.module.get_outputs(merge_multi_context=False)  # type: ignore[no-any-return]

    def init_optimizer(self, kvstore: str | None, name: str, options: dict[str, Any]) -> None:
        """kvstore: what sums gradients of several devices; None where they are summed already. Errors: ValueError,
        TypeError of the options."""
        self.module.init_optimizer(kvstore=kvstore, optimizer=name, optimizer_params=options)

    def set_factors(self, learning_rate: dict[str, float], weight_decay: dict[str, float]) -> None:
        """Parameter -> factor on the optimizer's."""
        self._optimizer.set_lr_mult(learning_rate)
        self._optimizer.set_wd_mult(weight_decay)

    @property
    def gradient_scale(self) -> float:
        """What the optimizer multiplies the sum of gradients with."""
        return float(self._optimizer.rescale_grad)

    @gradient_scale.setter
    def gradient_scale(self, scale: float) -> None:
        self._optimizer.rescale_grad = scale

    @property
    def learning_rate(self) -> float:
        """Of the last update."""
        return float(self._optimizer.learning_rate)

    @property
    def updates(self) -> int:
        """Steps that changed the parameters, as schedules and Adam count them."""
        return int(self._optimizer.num_update)

    def update(self) -> None:
        """One step of the optimizer along the gradients; done in the background, see wait."""
        self.module.update()

    def wait(self) -> None:
        """Returns when the parameters are those of the last update. Errors: MXNetError of that update."""
        for arrays in self._group.param_arrays:
            for array in arrays:
                array.wait_to_read()

    def optimizer_states(self) -> Params:
        """The optimizer's arrays (momentum, …) as "parameter:slot" -> array. Devices hold the same, so one of each."""
        names = self._updater.optimizer.idx2name
        arrays: Params = {}
        for index, state in self._updater.states.items():
            slots = state if isinstance(state, (tuple, list)) else (state,)
            name = names.get(index, str(index))
            arrays |= {f"{name}:{slot}": array for slot, array in enumerate(slots) if array is not None}
        return arrays

    def restore_optimizer(self, arrays: Params, updates: int) -> None:
        """Puts back what optimizer_states gave, and the number of updates.

        Wherever the optimizer runs: on the devices, or on the key-value store of several. Errors: UserError for arrays
        that do not fit.
        """
        updater = self._updater
        optimizer = updater.optimizer
        optimizer.begin_num_update = optimizer.num_update = updates
        learning = self.gradients
        for place, (name, weights) in enumerate(self.weights.items()):
            if name not in learning or f"{name}:0" not in arrays:  # frozen, or never updated
                continue
            for key, weight in zip(self._update_keys(place, name), weights, strict=False):
                made = optimizer.create_state_multi_precision(key, weight)
                slots = made if isinstance(made, (tuple, list)) else (made,)
                for slot, array in enumerate(slots):
                    _fill(array, arrays, f"{name}:{slot}")
                updater.states[key] = made
                updater.states_synced[key] = False  # the store may keep it elsewhere

    def device_statistics(self) -> Params:
        """BatchNorm's running statistics of each of several devices, "name:device" -> array; get_params has their
        mean."""
        if len(self.devices) == 1:
            return {}
        return {
            f"{name}:{device}": array
            for name, arrays in self.statistics.items()
            for device, array in enumerate(arrays)
        }  # fmt: skip

    def restore_device_statistics(self, arrays: Params) -> None:
        """Puts back what device_statistics gave; with another number of devices each continues from the mean."""
        here = self.device_statistics()
        if here.keys() == arrays.keys():
            for name, array in arrays.items():
                array.copyto(here[name])

    @property
    def _group(self) -> Any:
        return self.module._exec_group

    @property
    def _optimizer(self) -> Any:
        return self.module._optimizer

    @property
    def _updater(self) -> Any:
        module = self.module
        return module._kvstore._updater if module._update_on_kvstore else module._updater

    def _update_keys(self, place: int, name: str) -> list[Any]:
        """Under which the updater keeps the states of a parameter: one of the store, or one per device."""
        count = len(self.devices)
        return [name] if self.module._update_on_kvstore else [place * count + device for device in range(count)]

    def _share_executor_params(self) -> None:
        """Lets get_params give the very parameters that its only device, a CPU, computes with, and not a second copy
        that MXNet keeps of all of them for that."""
        module, executor = self.module, self._group.execs[0]
        module._arg_params = {name: executor.arg_dict[name] for name in module._arg_params}
        module._aux_params = {name: executor.aux_dict[name] for name in module._aux_params}


def _fill(array: Any, arrays: Params, name: str) -> None:
    if array is None and name not in arrays:
        return
    if array is None or name not in arrays or arrays[name].shape != array.shape:
        raise UserError(f"optimizer state {name} of the checkpoint does not fit this optimizer and network")
    arrays[name].copyto(array)
