"""One step of training: on one device or two, with frozen and taken-over parameters, with a loss that is not finite."""

import logging
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from ssd.checkpoint.model import Model, ModelSpec, attach_spec
from ssd.config.compose import compose
from ssd.config.parts import trainer_config
from ssd.detection.detector import Detector
from ssd.mxnet_compat import mx
from ssd.symbol import build_train
from ssd.training.trainer import Trainer
from ssd.utils.errors import UserError

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


def config(*overrides: str, plain_network: bool = True) -> DictConfig:
    cfg = compose(["data_shape=64", "schedule=constant", "schedule.warmup=0", "optimizer=sgd", *overrides])
    if plain_network:
        OmegaConf.set_struct(cfg, False)
        cfg.backbone.network = {"_target_": f"{__name__}.plain", "filters": [8, 8, 16, 16]}
    return cfg


def trained(cfg: DictConfig, steps: int) -> tuple[list[float], dict[str, np.ndarray]]:
    mx.random.seed(7)
    trainer = Trainer(trainer_config(cfg), CLASSES, Batches, 100)
    losses = [trainer.step(Batches.batch(seed)).loss for seed in range(steps)]
    return losses, {name: array.asnumpy() for name, array in trainer.params()[0].items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "adadelta"])
def test_two_devices_train_as_one(optimizer: str) -> None:
    overrides = [f"optimizer={optimizer}", "optimizer.learning_rate=0.002"]
    one, params_one = trained(config(*overrides), 5)
    two, params_two = trained(config(*overrides, "device.ids=[0,1]"), 5)
    assert one[-1] != pytest.approx(one[0], abs=1e-3)  # it did learn something
    assert two == pytest.approx(one, abs=1e-3)
    for name, values in params_one.items():
        assert params_two[name] == pytest.approx(values, abs=2e-3), name


def test_gradients_are_divided_by_the_positives_of_the_whole_batch() -> None:
    cfg = config()
    trainer = Trainer(trainer_config(cfg), CLASSES, Batches, 100)
    before = {name: array.asnumpy() for name, array in trainer.params()[0].items()}
    losses = trainer.step(Batches.batch(0))
    assert trainer.module.gradient_scale == pytest.approx(1 / losses.positives)
    assert losses.anchors == 4 * losses.positives  # three mined negatives each
    after = {name: array.asnumpy() for name, array in trainer.params()[0].items()}
    assert any(np.abs(after[name] - before[name]).max() > 0 for name in before)


def test_a_batch_without_any_object_teaches_background_gently() -> None:
    """Its anchors are all the gradient there is; divided by the positives, none, their sum would be a leap."""
    cfg = config("matching.min_negatives=9", "matching.negative_ratio=3", "optimizer.wd=0")
    trainer = Trainer(trainer_config(cfg), CLASSES, Batches, 100)
    batch = Batches.batch(0)
    batch.label[0][:] = -1
    before = {name: array.asnumpy().copy() for name, array in trainer.params()[0].items()}
    losses = trainer.step(batch)
    assert (losses.positives, losses.anchors, losses.smooth_l1_sum) == (0, 9 * BATCH, 0)
    assert trainer.module.gradient_scale == pytest.approx(4 / (9 * BATCH))
    assert losses.loss == pytest.approx(4 * losses.cross_entropy)
    changed = [name for name, array in trainer.params()[0].items() if np.abs(array.asnumpy() - before[name]).max() > 0]
    assert "stage3_2_relu_cls_pred_conv_weight" in changed
    assert not any("loc_pred" in name for name in changed)


def test_frozen_parameters_stay(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cfg = config("init.freeze=^conv[12]_")
    mx.random.seed(7)
    trainer = Trainer(trainer_config(cfg), CLASSES, Batches, 100)
    before = {name: array.asnumpy().copy() for name, array in trainer.params()[0].items()}
    trainer.step(Batches.batch(0))
    changed = {name for name, array in trainer.params()[0].items() if np.abs(array.asnumpy() - before[name]).max() > 0}
    assert not any(name.startswith(("conv1_", "conv2_")) for name in changed)
    assert "conv3_weight" in changed
    assert "frozen: 4 parameters: conv1_weight, conv1_bias, conv2_weight, conv2_bias" in caplog.text


def test_a_loss_that_is_not_finite_leaves_the_parameters_alone() -> None:
    trainer = Trainer(trainer_config(config()), CLASSES, Batches, 100)
    batch = Batches.batch(0)
    batch.data[0][0] = 3e38
    before = {name: array.asnumpy().copy() for name, array in trainer.params()[0].items()}
    assert not trainer.step(batch).finite
    for name, array in trainer.params()[0].items():
        np.testing.assert_array_equal(array.asnumpy(), before[name])


def test_the_originals_graph_trains_without_its_nms() -> None:
    trainer = Trainer(trainer_config(config("compat=mxnet_ssd")), CLASSES, Batches, 100)
    assert trainer.symbol.list_outputs() == ["cls_prob_output", "loc_loss_output", "cls_label_output"]
    assert trainer.step(Batches.batch(0)).finite
    assert trainer.module.gradient_scale == 1.0


class Bytes(Batches):
    """The same boxes on images of bytes."""

    provide_data = [mx.io.DataDesc("data", (BATCH, 3, 64, 64), dtype="uint8")]

    @staticmethod
    def pixels(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (BATCH, 3, 64, 64), dtype=np.uint8)


@pytest.mark.parametrize("devices", ["[0]", "[0,1]"])
@pytest.mark.parametrize("compat", ["null", "mxnet_ssd"])
def test_bytes_are_normalized_on_the_device(devices: str, compat: str) -> None:
    """Training on bytes is training on what evaluation makes of them, and what is saved is the same graph."""
    cfg = config(f"device.ids={devices}", f"compat={compat}", "optimizer.learning_rate=0.001")
    mean, std = (np.float32(cfg.backbone.input[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    outcomes = []
    for kind in (Batches, Bytes):
        mx.random.seed(7)
        trainer = Trainer(trainer_config(cfg), CLASSES, kind, 100)
        losses = []
        for seed in range(3):
            batch, pixels = Batches.batch(seed), Bytes.pixels(seed)
            batch.data = [mx.nd.array(pixels, dtype="uint8") if kind is Bytes else mx.nd.array((pixels - mean) / std)]
            losses.append(trainer.step(batch).loss)
        outcomes.append((losses, trainer))
    (losses, floats), (losses_bytes, trainer) = outcomes
    assert losses_bytes == pytest.approx(losses, rel=1e-4)
    assert losses[-1] != pytest.approx(losses[0], abs=1e-4)
    assert trainer.symbol.tojson() == floats.symbol.tojson() == unnormalized(cfg).tojson()
    for params, expected in zip(trainer.params(), floats.params(), strict=True):
        assert params.keys() == expected.keys()
        for name in params:
            np.testing.assert_allclose(params[name].asnumpy(), expected[name].asnumpy(), atol=1e-5, err_msg=name)
    spec = ModelSpec.from_config(cfg, CLASSES)
    model = Model(spec, attach_spec(trainer.symbol, spec), *trainer.params())
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    assert Detector(model, mx.cpu(), 1).predict([image])[0].shape[1] == 6


def unnormalized(cfg: DictConfig) -> mx.sym.Symbol:
    graph = build_train(cfg, len(CLASSES))
    return mx.sym.Group([graph[index] for index in range(3)])


def test_unknown_optimizer() -> None:
    with pytest.raises(UserError, match="optimizer"):
        Trainer(trainer_config(config("optimizer.name=lion")), CLASSES, Batches, 100)


def test_missing_gpu() -> None:
    if mx.context.num_gpus():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="try device=cpu"):
        Trainer(trainer_config(config("device=gpu")), CLASSES, Batches, 100)
