"""The Module under training: binding it to devices, its first parameters, and one step."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from ssd.checkpoint.model import Params
from ssd.config.parts import InitConfig, TrainerConfig
from ssd.mxnet_compat import contexts, mx
from ssd.symbol.losses import divides_itself
from ssd.training.ema import Ema
from ssd.training.groups import frozen_names, learning_rates, weight_decays
from ssd.training.losses import StepLosses, loss_divisor, read_losses
from ssd.training.module_adapter import ModuleAdapter
from ssd.training.modules import Graphs, Modules
from ssd.training.optimizers import optimizer_name
from ssd.training.schedules import Schedule
from ssd.training.start import InitialWeights, load_matching, log_summary, read_source, wanted_shapes
from ssd.training.state import all_finite, has_random_ops
from ssd.utils.errors import UserError

if TYPE_CHECKING:
    from ssd.training.distributed import GradientAllReduce

log = logging.getLogger(__name__)


class Stage(Enum):
    """Where in a step a trainer is."""

    BETWEEN = auto()  # two steps
    GRADIENTS = auto()  # only BatchNorm's statistics have changed
    UPDATE = auto()  # some parameters may have changed
    UNCONFIRMED = auto()  # all changes are under way


@dataclass(frozen=True)
class Probe:
    """How one step shows more of the network. module: module_for(batch) with more outputs; show: gets those
    [output][device] of each pass, as long as they are there."""

    module: ModuleAdapter
    show: Callable[[list[list[Any]]], None]


@contextlib.contextmanager
def optimizer_errors(name: str) -> Iterator[None]:
    """While MXNet makes an optimizer. Errors: UserError for a name or an option that it does not know."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UserError(f"optimizer {name}: {str(error).splitlines()[0]}") from error


class Trainer:
    """A bound, initialized Module with its optimizer. Of 16 bits, ssd.training.precision.prepare() is called before."""

    def __init__(
        self,
        config: TrainerConfig,
        classes: Sequence[str],
        data: Any,
        total_steps: int,
        start: tuple[Params, Params] | None = None,
    ) -> None:
        """data: anything with provide_data and provide_label, the shapes of one batch. start: the parameters of a run
        that is resumed; None = those that config.init names."""
        network = config.network
        self.exchange: GradientAllReduce | None = None  # with other workers
        self._seed = config.seed
        # Else the graph divides, per device and pass.
        self._batch_normalized = not divides_itself(network.compat, network.loss.classification)
        # Of losses that learn from every anchor the positives alone are the measure.
        self._negative_ratio = network.matching.negative_ratio if network.loss.classification == "softmax" else 0.0
        graphs = Graphs(config, len(classes), data)
        self.symbol = graphs.base
        self.outputs = len(self.symbol.list_outputs())
        self.devices = contexts(config.device)
        self._draws = has_random_ops(self.symbol)
        shapes = dict([*data.provide_data, *data.provide_label])
        frozen = frozen_names(self.symbol, config.init.freeze, shapes)
        if frozen:
            log.info("frozen: %d parameters: %s", len(frozen), ", ".join(frozen))
        self._passes = config.accumulate
        self._modules = Modules(graphs, data, self.devices, frozen, self._passes)
        self.module = self._modules.owner
        if start is None:
            self._begin(config.init, classes, shapes, frozen)
        else:
            self._set_params(*start)
        self._init_optimizer(config, total_steps)
        self.ema = Ema(self.module, config.ema) if config.ema else None
        # A step that is skipped, or that fails, must leave no trace in BatchNorm's running statistics either, which its
        # forward pass changes.
        self._statistics = [array.copy() for array in self._statistic_arrays()]
        self._stage = Stage.BETWEEN

    def _begin(self, init: InitConfig, classes: Sequence[str], shapes: dict[str, Any], frozen: Sequence[str]) -> None:
        """The first parameters."""
        start = InitialWeights()
        if init.mode != "scratch":
            source = read_source(init, self.symbol)
            start = load_matching(self.symbol, shapes, source, classes, by_class=init.mode == "finetune")
        if init.mode != "scratch" or frozen:
            log_summary(wanted_shapes(self.symbol, shapes), start, frozen, init.lr_mult)
        self._set_params(start.arg_params, start.aux_params)
        if start.rows:
            arg_params, aux_params = self.module.get_params()
            start.fill_rows(arg_params)
            self.module.set_params(arg_params, aux_params)

    def _set_params(self, arg_params: Params, aux_params: Params) -> None:
        self.module.init_params(mx.init.Xavier(), arg_params, aux_params)

    def _init_optimizer(self, config: TrainerConfig, total_steps: int) -> None:
        name, rate, factors = config.optimizer.name, config.optimizer.learning_rate, config.init.lr_mult
        self.schedule = Schedule(config.schedule, rate, total_steps)
        options = {
            **config.optimizer.options,
            "learning_rate": rate,
            "lr_scheduler": self.schedule,
            "rescale_grad": 1.0 / len(self.devices),
        }
        # Of several workers the exchange sums gradients, over the devices of each, too.
        kvstore = "local" if len(self.devices) > 1 and not config.distributed else None
        with optimizer_errors(name):
            self.module.init_optimizer(kvstore, optimizer_name(name, config.device.name), options)
        self.module.set_factors(learning_rates(self.symbol, factors), weight_decays(self.symbol, config.weight_decay))
        other = "".join(f", times {factor:g} for {group}" for group, factor in factors.items() if factor != 1)
        log.info(
            "optimizer: %s, learning rate %g by schedule=%s%s, weight decay %g on %s",
            name, rate, config.schedule.name, other, options.get("wd", 0), config.weight_decay,
        )  # fmt: skip

    def step(self, batch: Any, number: int = 0) -> StepLosses:
        """Forward, backward and update on one batch; with a loss or gradient that is not finite, parameters and
        optimizer are left as they were. number: of the step, which decides what Dropout draws."""
        losses = self.backward(batch, number)
        if losses.finite:
            self.update(losses)
            if self.ema:
                self.ema.update(self.module, self.updates)
        self.end_step(losses)
        return losses

    def module_for(self, batch: Any) -> ModuleAdapter:
        """The module of the batch's shape; all of them share parameters and gradients."""
        return self._modules.of(batch)

    def backward(self, batch: Any, number: int, probe: Probe | None = None) -> StepLosses:
        """Losses and gradients of a batch."""
        self._confirm()
        self._stage = Stage.GRADIENTS
        if self._draws:
            rank = self.exchange.rank if self.exchange else 0
            mx.random.seed((self._seed * 1_000_003 + rank * 7_919 + number) % 2**31)
        losses = read_losses(self._outputs(batch, probe), self._negative_ratio)
        if self.exchange:
            losses = self.exchange.sum(losses, self.gradients)
            divisor = loss_divisor(losses.positives, losses.anchors, self._negative_ratio)
            losses = replace(losses, divisor=divisor)
        return replace(losses, gradients_finite=all(all_finite(arrays) for arrays in self._gradients()))

    def _outputs(self, batch: Any, probe: Probe | None) -> Iterator[list[Any]]:
        """Runs the passes of a batch; outputs of every device of each."""
        module = probe.module if probe else self.module_for(batch)
        if self._passes > 1:  # whose gradients are added to what is there
            for arrays in self._gradients():
                mx.nd.reset_arrays(*arrays, num_arrays=len(arrays))
        for part in self._modules.parts(batch):
            module.forward_backward(part)
            outputs = module.outputs()
            yield from (list(device) for device in zip(*outputs[: self.outputs], strict=True))
            if probe:
                probe.show(outputs[self.outputs :])

    def update(self, losses: StepLosses) -> None:
        """One step along the gradients of the batch that these losses are of, which must be finite."""
        self.module.gradient_scale = self.gradient_scale(losses)
        self._stage = Stage.UPDATE
        self.module.update()

    def end_step(self, losses: StepLosses) -> None:
        """After update and what follows from it, or without it where the losses are not finite."""
        self._commit_or_restore_bn_stats(good=losses.finite)
        self._stage = Stage.UNCONFIRMED

    def undo(self) -> None:
        """After an error: parameters, optimizer and statistics are those of the last whole step again.

        Errors: UserError when that is impossible: a step has failed amid changing them.
        """
        with contextlib.suppress(mx.base.MXNetError):  # it leaves the stage as it is
            self._confirm()
        if self._stage in (Stage.UPDATE, Stage.UNCONFIRMED):
            raise UserError("a step failed while it changed the parameters, which are not saved")
        if self._stage is Stage.GRADIENTS:
            self._commit_or_restore_bn_stats(good=False)
            self._stage = Stage.BETWEEN

    def _confirm(self) -> None:
        """Waits until the last step has changed the parameters: MXNet does so in the background, and reports what goes
        wrong when a result is waited for, which would else be that of the next step."""
        if self._stage is Stage.UNCONFIRMED:
            self.module.wait()
            self._stage = Stage.BETWEEN

    def _commit_or_restore_bn_stats(self, good: bool) -> None:
        """After a step: those of good ones are remembered, others go back to what they were."""
        for current, before in zip(self._statistic_arrays(), self._statistics, strict=True):
            (current.copyto(before) if good else before.copyto(current))

    def gradient_scale(self, losses: StepLosses) -> float:
        """What the gradients, summed over all devices and passes, are multiplied with to be those of the loss.

        The positives of the whole batch divide them, so that the result does not depend on how many share it.
        """
        workers = self.exchange.workers if self.exchange else 1
        parts = len(self.devices) * workers * self._passes
        return 1.0 / losses.divisor if self._batch_normalized else 1.0 / parts

    @property
    def gradients(self) -> list[list[Any]]:
        """[parameter][device]; with an exchange, all devices of a parameter have the same, its sum."""
        return list(self.module.gradients.values())

    def _gradients(self) -> list[list[Any]]:
        """[device][parameter]."""
        return [list(device) for device in zip(*self.gradients, strict=True)]

    def _statistic_arrays(self) -> list[Any]:
        return [array for devices in self.module.statistics.values() for array in devices]

    @property
    def updates(self) -> int:
        """Steps that changed the parameters."""
        return self.module.updates

    def state(self) -> dict[str, Params]:
        """All that is learned beside the parameters, in named groups of named arrays.

        weights: what params() gives the average of, "arg:name" and "aux:name"; absent without ema.
        """
        groups = {"optimizer": self.module.optimizer_states(), "statistics": self.module.device_statistics()}
        if self.ema:
            arg_params, aux_params = self.raw_params()
            groups["weights"] = {f"arg:{name}": array for name, array in arg_params.items()}
            groups["weights"] |= {f"aux:{name}": array for name, array in aux_params.items()}
        return groups

    def restore(self, state: dict[str, Params], updates: int, params: tuple[Params, Params]) -> None:
        """Goes on from what state(), updates and params() were. Errors: UserError when it is of another network or
        optimizer."""
        self.module.restore_optimizer(state.get("optimizer", {}), updates)
        self.module.restore_device_statistics(state.get("statistics", {}))
        self._commit_or_restore_bn_stats(good=True)
        if self.ema:
            self.ema.restore(*params)

    @property
    def learning_rate(self) -> float:
        """Of the last step."""
        return self.module.learning_rate

    def params(self) -> tuple[Params, Params]:
        """(arg_params, aux_params) on the CPU, to validate and to save: the averages, where training.ema says so."""
        return self.ema.params() if self.ema else self.raw_params()

    def raw_params(self) -> tuple[Params, Params]:
        """What training goes on with, on a single CPU the very arrays; BatchNorm statistics averaged over devices."""
        return self.module.get_params()
