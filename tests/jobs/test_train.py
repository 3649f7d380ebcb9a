"""job=train with other choices than the default's, called as a function."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssd import jobs
from ssd.config.compose import compose
from ssd.detection import Detector
from ssd.jobs import train
from ssd.utils.errors import UserError

TINY = ["dataset.train=16", "dataset.val=4", "batch_size=4", "epochs=1", "logger=[]", "training.samples=1"]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Trains with the given overrides on a few generated images; returns the run directory."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str) -> Path:
        folder = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        folder.mkdir()
        train.run(compose([*TINY, *overrides]), folder)
        return folder

    return run


@pytest.mark.parametrize(
    "overrides",
    [
        ["compat=mxnet_ssd"],
        ["device.ids=[0,1]"],
        ["data_shape=[96,160]", "augment=ssd"],
        ["augment=light", "optimizer=rmsprop", "schedule=step"],
        ["augment=none", "optimizer=adadelta", "schedule=constant"],
        ["optimizer=sgd", "optimizer.clip_gradient=1.0", "batch_size=16"],
        ["backbone=mobilenet_025", "training.validate_every=2", "epochs=3"],
        ["head=ssd_bn", "training.ema=0.9", "training.weight_decay=all", "optimizer.wd=0.001", "device.ids=[0,1]"],
        ["loss.classification=focal"],
        ["loss.classification=focal", "compat=mxnet_ssd", "head=ssd_bn", "device.ids=[0,1]"],
        ["loss.label_smoothing=0.1", "matching.mining=batch"],
        ["loss.label_smoothing=0.1", "matching.mining=batch", "compat=mxnet_ssd", "device.ids=[0,1]"],
        ["augment=ssd_plus", "augment.multi_scale.factors=[0.75,1.25]", "epochs=2", "training.ema=0.9"],
        ["augment.multi_scale.factors=[0.75,1.25]", "compat=mxnet_ssd", "device.ids=[0,1]"],
    ],
    ids=" ".join,
)
def test_choices_train_and_can_be_loaded(overrides: list[str], trained: Callable[..., Path]) -> None:
    run = trained(*overrides)
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["map_11pt"] <= 1
    found = Detector.load(str(run)).predict([np.full((50, 70, 3), 127, np.uint8)])[0]
    assert found.shape[1] == 6


def test_the_same_configuration_gives_the_same_numbers(trained: Callable[..., Path]) -> None:
    first, second = trained("epochs=2"), trained("epochs=2")
    losses = []
    for run in (first, second):
        lines = (run / "metrics.csv").read_text().splitlines()
        losses.append([float(line.split(",")[lines[0].split(",").index("train/loss")]) for line in lines[1:]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_model_of_other_classes_is_taken_over(trained: Callable[..., Path]) -> None:
    """What both know is found by the new model before it has learned anything."""
    overrides = ["dataset.train=48", "dataset.val=12", "dataset.image_size=96", "data_shape=96", "seed=1"]
    known = trained(*overrides, "epochs=8")
    taken = ["init.mode=finetune", f"init.weights={known}", "init.freeze=but_heads", "init.freeze_bn=true"]
    taken += ["optimizer.learning_rate=1e-9", "dataset.classes=[triangle,circle]"]
    again = trained(*overrides, *taken)
    aps = [json.loads((run / "metrics.json").read_text()) for run in (known, again)]
    for name in ("triangle", "circle"):
        before, after = (ap[f"ap_area/{name}"] for ap in aps)
        assert before > 0.1
        assert after > before / 2  # on other images


def test_a_run_can_be_repeated_from_its_own_configuration(trained: Callable[..., Path]) -> None:
    """Everything is in config.yaml, resolved: classes found in the files included."""
    from omegaconf import OmegaConf

    saved = OmegaConf.load(trained() / "config.yaml")
    assert saved.dataset.classes == ["circle", "rectangle", "triangle"]
    assert saved.head.from_layers
    assert not OmegaConf.missing_keys(saved)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["device=gpu"], "GPU 0 is not there"),
        (["batch_size=9"], "there are only 8 images to train on"),
        (["loader=record", "resize_mode=fit"], "MXNet's iterator leaves the labels unscaled"),
        (["loader=record", "augment=ssd_plus"], "MXNet's iterator has none"),
        (["training.precision=float16"], "training.precision=float16"),
    ],
)
def test_what_cannot_work_is_reported_before_anything_is_packed(tmp_path, monkeypatch, overrides, message):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the job sets
    common = ["dataset.train=8", "dataset.val=4", "dataset.image_size=32", f"dataset.root={tmp_path}/drawn",
              f"training.records={tmp_path}/records", "data_shape=64", "batch_size=4", "logger=[]"]  # fmt: skip
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=message):
        jobs.run(compose([*common, *overrides]), tmp_path / "run")
    assert not list((tmp_path / "records").glob("*/*-*"))
    assert not list((tmp_path / "records").glob("*/.*"))
