"""One step of training: on one device or two, with frozen and taken-over parameters, with a loss that is not finite."""

import logging
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from ssd.config import compose
from ssd.engine import mx
from ssd.errors import UserError
from ssd.symbol import build_train
from ssd.training.trainer import Trainer, frozen_names, take_over

CLASSES = ["a", "b", "c"]
BATCH = 8


def plain(data: mx.sym.Symbol, filters: list[int]) -> mx.sym.Symbol:
    """A backbone without BatchNorm, as a user would write one."""
    for index, width in enumerate(filters, start=1):
        data = mx.sym.Convolution(data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), num_filter=width, name=f"conv{index}")
        data = mx.sym.Activation(data, act_type="relu", name=f"stage{index}_2_relu")
    return data


class Batches:
    """Reproducible batches of noise with boxes."""

    provide_data = [mx.io.DataDesc("data", (BATCH, 3, 64, 64))]
    provide_label = [mx.io.DataDesc("label", (BATCH, 4, 6))]

    @staticmethod
    def batch(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        label = -np.ones((BATCH, 4, 6), "float32")
        for row in label:
            for box in row[: rng.integers(1, 4)]:
                low = rng.uniform(0, 0.5, 2)
                box[:] = [rng.integers(3), *low, *(low + rng.uniform(0.2, 0.5, 2)), 0]
        data = rng.normal(0, 1, (BATCH, 3, 64, 64))
        return mx.io.DataBatch([mx.nd.array(data)], [mx.nd.array(label)], pad=0)


def config(*words: str, plain_network: bool = True) -> DictConfig:
    cfg = compose(["data_shape=64", "schedule=constant", "schedule.warmup=0", "optimizer=sgd", *words])
    if plain_network:
        OmegaConf.set_struct(cfg, False)
        cfg.backbone.network = {"_target_": f"{__name__}.plain", "filters": [8, 8, 16, 16]}
    return cfg


def trained(cfg: DictConfig, steps: int) -> tuple[list[float], dict[str, np.ndarray]]:
    mx.random.seed(7)
    trainer = Trainer(cfg, CLASSES, Batches, 100)
    losses = [trainer.step(Batches.batch(seed)).loss for seed in range(steps)]
    return losses, {name: array.asnumpy() for name, array in trainer.params()[0].items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "adadelta"])
def test_two_devices_train_as_one(optimizer: str) -> None:
    words = [f"optimizer={optimizer}", "optimizer.learning_rate=0.002"]
    one, params_one = trained(config(*words), 5)
    two, params_two = trained(config(*words, "device.ids=[0,1]"), 5)
    assert one[-1] != pytest.approx(one[0], abs=1e-3)  # it did learn something
    assert two == pytest.approx(one, abs=1e-3)
    for name, values in params_one.items():
        assert params_two[name] == pytest.approx(values, abs=2e-3), name


def test_gradients_are_divided_by_the_positives_of_the_whole_batch() -> None:
    cfg = config()
    trainer = Trainer(cfg, CLASSES, Batches, 100)
    before = {name: array.asnumpy() for name, array in trainer.params()[0].items()}
    losses = trainer.step(Batches.batch(0))
    assert trainer.module._optimizer.rescale_grad == pytest.approx(1 / losses.positives)
    assert losses.anchors == 4 * losses.positives  # three mined negatives each
    after = {name: array.asnumpy() for name, array in trainer.params()[0].items()}
    assert any(np.abs(after[name] - before[name]).max() > 0 for name in before)


def test_a_batch_without_any_object_teaches_background_gently() -> None:
    """Its anchors are all the gradient there is; divided by the positives, none, their sum would be a leap."""
    cfg = config("matching.min_negatives=9", "matching.negative_ratio=3", "optimizer.wd=0")
    trainer = Trainer(cfg, CLASSES, Batches, 100)
    batch = Batches.batch(0)
    batch.label[0][:] = -1
    before = {name: array.asnumpy().copy() for name, array in trainer.params()[0].items()}
    losses = trainer.step(batch)
    assert (losses.positives, losses.anchors, losses.smooth_l1_sum) == (0, 9 * BATCH, 0)
    assert trainer.module._optimizer.rescale_grad == pytest.approx(4 / (9 * BATCH))
    assert losses.loss == pytest.approx(4 * losses.cross_entropy)
    changed = [name for name, array in trainer.params()[0].items() if np.abs(array.asnumpy() - before[name]).max() > 0]
    assert "stage3_2_relu_cls_pred_conv_weight" in changed
    assert not any("loc_pred" in name for name in changed)


def test_frozen_parameters_stay(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cfg = config("freeze=^conv[12]_")
    mx.random.seed(7)
    trainer = Trainer(cfg, CLASSES, Batches, 100)
    before = {name: array.asnumpy().copy() for name, array in trainer.params()[0].items()}
    trainer.step(Batches.batch(0))
    changed = {name for name, array in trainer.params()[0].items() if np.abs(array.asnumpy() - before[name]).max() > 0}
    assert not any(name.startswith(("conv1_", "conv2_")) for name in changed)
    assert "conv3_weight" in changed
    assert "frozen: 4 parameters: conv1_weight, conv1_bias, conv2_weight, conv2_bias" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "part"), [("^nothing_", "matches no parameter"), ("(", "not a regular expression")]
)
def test_freezing_nothing_is_an_error(pattern: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        frozen_names(build_train(config(), 3), pattern)


def test_a_loss_that_is_not_finite_leaves_the_parameters_alone() -> None:
    trainer = Trainer(config(), CLASSES, Batches, 100)
    batch = Batches.batch(0)
    batch.data[0][0] = 3e38
    before = {name: array.asnumpy().copy() for name, array in trainer.params()[0].items()}
    assert not trainer.step(batch).finite
    for name, array in trainer.params()[0].items():
        np.testing.assert_array_equal(array.asnumpy(), before[name])


def test_taking_over_tells_what_fits(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    graph = build_train(config(), 3)
    shapes = dict([*Batches.provide_data, *Batches.provide_label])
    trainer = Trainer(config(), ["a"], Batches, 100)  # of one class: its class predictors do not fit
    source = trainer.params()
    source[0]["other_weight"] = mx.nd.zeros((2, 2))
    taken, _ = take_over(graph, shapes, source, "x.params")
    assert {"conv1_weight", "conv4_bias"} <= taken.keys()
    assert not any("cls_pred" in name for name in taken)
    assert "stage3_2_relu_cls_pred_conv_weight" in caplog.text
    assert "shape (10, 16, 3, 3) in the file, (20, 16, 3, 3) here" in caplog.text
    assert "unused          other_weight" in caplog.text
    with pytest.raises(UserError, match="none of its 1 parameters fits"):
        take_over(graph, shapes, ({"other_weight": mx.nd.zeros((2, 2))}, {}), "x.params")


def test_the_originals_graph_trains_without_its_nms() -> None:
    trainer = Trainer(config("compat=mxnet_ssd"), CLASSES, Batches, 100)
    assert trainer.symbol.list_outputs() == ["cls_prob_output", "loc_loss_output", "cls_label_output"]
    assert trainer.step(Batches.batch(0)).finite
    assert trainer.module._optimizer.rescale_grad == 1.0


def test_unknown_optimizer() -> None:
    with pytest.raises(UserError, match="optimizer"):
        Trainer(config("optimizer.name=lion"), CLASSES, Batches, 100)


def test_missing_gpu() -> None:
    if mx.context.num_gpus():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="try device=cpu"):
        Trainer(config("device=gpu"), CLASSES, Batches, 100)
