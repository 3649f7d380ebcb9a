"""A step that is shared, without the network between the workers: the other one is a trainer of this process."""

import struct
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from ssd.config.compose import compose
from ssd.config.parts import trainer_config
from ssd.data.loaders.base import Shard
from ssd.mxnet_compat import mx
from ssd.training.distributed import _packed, read_beginning
from ssd.training.losses import StepLosses
from ssd.training.trainer import Trainer
from ssd.utils.errors import LostWorkerError, UserError

BATCH = 8
CLASSES = ["a", "b", "c"]
# Files of arrays that claim a list of 2^40, and -1 dimensions.
COUNT = struct.pack("<QQQ", 0x112, 0, 1 << 40)
DIMENSIONS = struct.pack("<QQQIii", 0x112, 0, 1, 0xF993FAC9, 0, -1) + b"\0" * 60


def settings(*overrides: str) -> DictConfig:
    plain = ["data_shape=64", "schedule=constant", "schedule.warmup=0", "optimizer=sgd", "optimizer.learning_rate=0.01"]
    return compose([*plain, "cluster=local", *overrides])


def batch(share: Shard) -> Any:
    """Its part of a batch of noise with a different number of boxes per image."""
    rng = np.random.default_rng(0)
    label = np.full((BATCH, 4, 6), -1, np.float32)
    for row in label:
        for box in row[: rng.integers(1, 4)]:
            low = rng.uniform(0, 0.5, 2)
            box[:] = [rng.integers(3), *low, *(low + rng.uniform(0.2, 0.5, 2)), 0]
    data = rng.normal(0, 1, (BATCH, 3, 64, 64))
    here = slice(share.of(BATCH).start, share.of(BATCH).stop)
    return mx.io.DataBatch([mx.nd.array(data[here])], [mx.nd.array(label[here])], pad=0)


def trainer_of(cfg: DictConfig, share: Shard) -> Trainer:
    count = len(share.of(BATCH))
    shapes = SimpleNamespace(
        provide_data=[mx.io.DataDesc("data", (count, 3, 64, 64))],
        provide_label=[mx.io.DataDesc("label", (count, 4, 6))],
    )
    mx.random.seed(7)
    return Trainer(trainer_config(cfg), CLASSES, shapes, 100)


class Partner:
    """Adds what another trainer makes of its share."""

    rank, workers = 0, 2

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def sum(self, losses: StepLosses, gradients: Sequence[Sequence[Any]]) -> StepLosses:
        theirs = self._trainer.backward(batch(Shard(1, 2)), 0)
        for ours, others in zip(gradients, self._trainer.gradients, strict=True):
            total = sum(array.asnumpy() for array in [*ours, *others])
            for array in ours:
                array[:] = mx.nd.array(total)
        return replace(losses + theirs, divisor=losses.divisor)


class Lost:
    rank, workers = 0, 2

    def sum(self, losses: StepLosses, gradients: Sequence[Sequence[Any]]) -> StepLosses:
        raise LostWorkerError("worker 1 is gone")


@pytest.mark.parametrize("devices", ["[0]", "[0,1]"])
@pytest.mark.parametrize("compat", ["null", "mxnet_ssd"])
def test_two_that_share_a_step_do_what_one_alone_does(devices: str, compat: str) -> None:
    """With frozen statistics, which BatchNorm else takes of the images of a device."""
    cfg = settings(f"device.ids={devices}", f"compat={compat}")
    # The original's graph divides per device: as many as two workers have.
    ids = [0] if compat == "null" else list(range(2 * len(cfg.device.ids)))
    alone = settings(f"device.ids={ids}", f"compat={compat}", "cluster=none")
    cfg.init.freeze_bn = alone.init.freeze_bn = True
    one, first = trainer_of(alone, Shard()), trainer_of(cfg, Shard(0, 2))
    first.exchange = Partner(trainer_of(cfg, Shard(1, 2)))  # type: ignore[assignment]
    expected, losses = one.step(batch(Shard())), first.step(batch(Shard(0, 2)))
    for name in ("cross_entropy_sum", "anchors", "smooth_l1_sum", "positives", "divisor"):
        assert getattr(losses, name) == pytest.approx(getattr(expected, name), rel=1e-5), name
    for name, array in one.raw_params()[0].items():
        np.testing.assert_allclose(first.raw_params()[0][name].asnumpy(), array.asnumpy(), atol=1e-5, err_msg=name)


def test_a_step_in_which_a_worker_is_lost_leaves_everything_as_it_was() -> None:
    trainer = trainer_of(settings(), Shard(0, 2))
    trainer.exchange = Lost()  # type: ignore[assignment]
    before = [{name: array.asnumpy() for name, array in part.items()} for part in trainer.raw_params()]
    assert before[1]  # statistics of BatchNorm
    with pytest.raises(LostWorkerError):
        trainer.step(batch(Shard(0, 2)))
    trainer.undo()
    for part, values in zip(trainer.raw_params(), before, strict=True):
        for name, array in part.items():
            np.testing.assert_array_equal(array.asnumpy(), values[name], err_msg=name)


def test_other_images_than_those_of_worker_0() -> None:
    with pytest.raises(UserError, match="differ from those of worker 0"):
        read_beginning({"data": "theirs", "step": 0, "updates": 0}, b"", "ours")


@pytest.mark.parametrize("content", [b"", b"\0" * 60, COUNT, DIMENSIONS])
def test_what_is_no_list_of_arrays_is_not_given_to_mxnet(content: bytes) -> None:
    with pytest.raises(UserError, match="the parameters that worker 0 sent: .*no MXNet parameter file"):
        read_beginning({"data": "ours", "step": 0, "updates": 0}, content, "ours")


def test_worker_0s_arrays_arrive_as_they_are() -> None:
    arrays = {"arg:conv_weight": mx.nd.array([[1, 2]]), "optimizer:0": mx.nd.array([float("nan")])}
    found = read_beginning({"data": "ours", "step": 5, "updates": 4}, _packed(arrays), "ours")
    assert (found.step, found.updates) == (5, 4)
    np.testing.assert_array_equal(found.group("arg")["conv_weight"].asnumpy(), [[1, 2]])
    assert np.isnan(found.group("optimizer")["0"].asnumpy())
