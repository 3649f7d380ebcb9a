"""The Module under training: binding it to devices, its first parameters, and one step."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ssd.engine import mx
from ssd.errors import UserError
from ssd.interop.released import renamed
from ssd.model import Params, load_params
from ssd.symbol import build_train
from ssd.training.losses import StepLosses, read_losses
from ssd.training.schedules import Schedule
from ssd.training.state import (
    all_finite,
    device_statistics,
    draws,
    optimizer_states,
    restore_device_statistics,
    restore_optimizer,
)

log = logging.getLogger(__name__)

OUTPUTS = 3  # cls_prob, loc_loss, cls_label; the original's graph also runs its NMS in every step


def contexts(device: DictConfig) -> list[Any]:
    """MXNet contexts of `device`. Errors: UserError for GPUs that are not there."""
    if device.name == "gpu":
        found = mx.context.num_gpus()
        if missing := [index for index in device.ids if index >= found]:
            raise UserError(
                f"device.ids={list(device.ids)}: GPU {missing[0]} is not there, MXNet sees {found}; try device=cpu"
            )
    return [mx.Context(device.name, index) for index in device.ids]


class Trainer:
    """A bound, initialised Module with its optimizer."""

    def __init__(
        self,
        cfg: DictConfig,
        classes: Sequence[str],
        data: Any,
        total_steps: int,
        start: tuple[Params, Params] | None = None,
    ) -> None:
        """data: anything with provide_data and provide_label, the shapes of one batch. start: the parameters of a run
        that is gone on with; None = those that cfg says."""
        self._seed = cfg.seed
        self._batch_normalised = cfg.compat is None  # else the graph divides by itself, per device
        self._negative_ratio = cfg.matching.negative_ratio
        graph = build_train(cfg, len(classes))
        self.symbol = mx.sym.Group([graph[index] for index in range(OUTPUTS)])
        self.devices = contexts(cfg.device)
        self._draws = draws(self.symbol)
        arg_params, frozen = self._start_values(cfg, data, start)
        self.module = mx.mod.Module(
            self._on_batches(self.symbol, cfg, data),
            data_names=[name for name, _ in data.provide_data],
            label_names=[name for name, _ in data.provide_label],
            context=self.devices,
            fixed_param_names=frozen,
            logger=log,
        )
        self.module.bind(data.provide_data, data.provide_label)
        self.module.init_params(
            mx.init.Xavier(), arg_params=arg_params[0], aux_params=arg_params[1], allow_missing=True, allow_extra=True
        )
        self._init_optimizer(cfg, total_steps)
        # A skipped step must leave no trace in BatchNorm's running statistics either, which its forward pass changes.
        self._statistics: list[Any] | None = None
        if cfg.guard.non_finite == "skip":
            self._statistics = [array.copy() for array in self._statistic_arrays()]

    @staticmethod
    def _on_batches(symbol: Any, cfg: DictConfig, data: Any) -> Any:
        """The graph as it is bound: bytes are normalised on the device, a quarter of the copying of floats.

        `self.symbol`, which is saved, has float input as evaluation gives it; the parameters are the same.
        """
        if np.dtype(data.provide_data[0].dtype) != np.uint8:
            return symbol
        mean, std = (tuple(cfg.backbone.input[key]) for key in ("mean", "std"))
        pixels = mx.sym.Cast(mx.sym.Variable("data"), dtype="float32", name="data_float")
        return symbol(data=mx.sym.image.normalize(pixels, mean=mean, std=std, name="data_normalised"))

    def _start_values(
        self, cfg: DictConfig, data: Any, start: tuple[Params, Params] | None
    ) -> tuple[tuple[Params, Params], list[str]]:
        """Parameters to start with, those of `pretrained` if it is set, and the names that stay fixed."""
        if start is not None:
            return start, frozen_names(self.symbol, cfg.freeze or (cfg.pretrained and cfg.backbone.freeze))
        if cfg.pretrained is None:
            return ({}, {}), frozen_names(self.symbol, cfg.freeze)
        shapes = dict([*data.provide_data, *data.provide_label])
        source = renamed(load_params(cfg.pretrained), self.symbol)
        taken = take_over(self.symbol, shapes, source, cfg.pretrained)
        return taken, frozen_names(self.symbol, cfg.freeze or cfg.backbone.freeze)

    def _init_optimizer(self, cfg: DictConfig, total_steps: int) -> None:
        options: Any = OmegaConf.to_container(cfg.optimizer, resolve=True)
        name, rate = options.pop("name"), options["learning_rate"]
        if options["clip_gradient"] is None:
            del options["clip_gradient"]
        options["lr_scheduler"] = self.schedule = Schedule(cfg.schedule, rate, total_steps)
        options["rescale_grad"] = 1.0 / len(self.devices)
        kvstore = "local" if len(self.devices) > 1 else None
        try:
            self.module.init_optimizer(kvstore=kvstore, optimizer=name, optimizer_params=options)
        except (ValueError, TypeError) as error:
            raise UserError(f"optimizer {name}: {str(error).splitlines()[0]}") from error

    def step(self, batch: Any, number: int = 0) -> StepLosses:
        """Forward, backward and update on one batch; with a loss or gradient that is not finite, parameters and
        optimizer are left as they were. number: of the step, which decides what Dropout draws."""
        losses = self.backward(batch, number, self.module)
        self.update(losses)
        return losses

    def backward(self, batch: Any, number: int, module: Any) -> StepLosses:
        """Losses and gradients of a batch, through `module`: this one's, or one that shares its arrays and shows more
        outputs."""
        if self._draws:
            mx.random.seed((self._seed * 1_000_003 + number) % 2**31)
        module.forward_backward(batch)
        outputs = module.get_outputs(merge_multi_context=False)[:OUTPUTS]
        losses = read_losses([list(device) for device in zip(*outputs, strict=True)], self._negative_ratio)
        return replace(losses, gradients_finite=all(all_finite(arrays) for arrays in self._gradients()))

    def update(self, losses: StepLosses) -> None:
        """One step along the gradients of the batch that these losses are of, unless they are not finite."""
        if losses.finite:
            self.module._optimizer.rescale_grad = self.gradient_scale(losses)
            self.module.update()
        if self._statistics is not None:
            pairs = list(zip(self._statistic_arrays(), self._statistics, strict=True))
            for current, good in pairs:
                (current.copyto(good) if losses.finite else good.copyto(current))

    def gradient_scale(self, losses: StepLosses) -> float:
        """What the gradients, summed over the devices, are multiplied with to be those of the loss.

        The positives of the whole batch divide them, so that the result does not depend on how many devices share it.
        """
        return 1.0 / losses.divisor if self._batch_normalised else 1.0 / len(self.devices)

    def _gradients(self) -> list[list[Any]]:
        """Of every device."""
        arrays = [device for device in self.module._exec_group.grad_arrays if device[0] is not None]
        return [list(device) for device in zip(*arrays, strict=True)]

    def _statistic_arrays(self) -> list[Any]:
        return [array for devices in self.module._exec_group.aux_arrays for array in devices]

    @property
    def updates(self) -> int:
        """Steps that changed the parameters."""
        return int(self.module._optimizer.num_update)

    def state(self) -> dict[str, Params]:
        """All that is learned beside the parameters, in named groups of named arrays."""
        return {"optimizer": optimizer_states(self.module), "statistics": device_statistics(self.module)}

    def restore(self, state: dict[str, Params], updates: int) -> None:
        """Goes on from what state() and updates were. Errors: UserError when it is of another network or optimizer."""
        restore_optimizer(self.module, state.get("optimizer", {}), updates)
        restore_device_statistics(self.module, state.get("statistics", {}))

    @property
    def learning_rate(self) -> float:
        """Of the last step."""
        return float(self.module._optimizer.learning_rate)

    def params(self) -> tuple[Params, Params]:
        """Current (arg_params, aux_params) on the CPU; BatchNorm statistics averaged over the devices."""
        return self.module.get_params()


def frozen_names(symbol: Any, pattern: str | None) -> list[str]:
    """Parameters whose name starts with a match of the regex. Errors: UserError when it is none or matches nothing."""
    if not pattern:
        return []
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"freeze={pattern}: not a regular expression ({error})") from error
    names = [name for name in symbol.list_arguments() if name not in ("data", "label") and expression.match(name)]
    if not names:
        raise UserError(f"freeze={pattern}: matches no parameter; they are named like {symbol.list_arguments()[1]!r}")
    log.info("frozen: %d parameters: %s", len(names), ", ".join(names))
    return names


def take_over(
    symbol: Any, shapes: dict[str, tuple[int, ...]], source: tuple[Params, Params], path: str
) -> tuple[Params, Params]:
    """Parameters of `source` that the graph has under the same name and shape; logs a table of the rest.

    shapes: of the graph's inputs. Errors: UserError when not a single one fits.
    """
    arg_shapes, _, aux_shapes = symbol.infer_shape(**shapes)
    wanted = {
        name: shape for name, shape in zip(symbol.list_arguments(), arg_shapes, strict=True) if name not in shapes
    }
    wanted.update(zip(symbol.list_auxiliary_states(), aux_shapes, strict=True))
    have = {**source[0], **source[1]}
    loaded = {name for name, shape in wanted.items() if name in have and tuple(have[name].shape) == tuple(shape)}
    if not loaded:
        raise UserError(f"pretrained={path}: none of its {len(have)} parameters fits this network; check backbone=")
    log.info("pretrained %s: %d loaded", path, len(loaded))
    for name in sorted(wanted.keys() - loaded):
        reason = (
            f"shape {have[name].shape} in the file, {tuple(wanted[name])} here" if name in have else "not in the file"
        )
        log.info("  re-initialised  %-48s %s", name, reason)
    for name in sorted(have.keys() - wanted.keys()):
        log.info("  unused          %-48s %s", name, have[name].shape)
    arg_params, aux_params = ({name: array for name, array in part.items() if name in loaded} for part in source)
    return arg_params, aux_params
