"""Detectors by name: for jobs that take a model, and to fine-tune."""

import hashlib
import io
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ssd.config.compose import compose
from ssd.config.parts import trainer_config
from ssd.jobs.common import open_detector
from ssd.jobs.train import advise_weights
from ssd.mxnet_compat import mx
from ssd.runs.inherit import inherit
from ssd.symbol import build_test, build_train
from ssd.training.start import load_matching, read_source
from ssd.utils.errors import UserError

NETWORK = ["backbone=mobilenet_025", "data_shape=128", "compat=mxnet_ssd"]
VOC = compose(["dataset=voc07"]).dataset.classes
SHAPES = {"data": (1, 3, 128, 128), "label": (1, 3, 6)}


@pytest.fixture
def released(server: SimpleNamespace, register: Callable[..., Any], cache: Path, tmp_path: Path) -> Callable[..., Any]:
    """released(graph) registers own/ssd, a detector of VOC as mxnet-ssd would publish it, and returns its parameters.
    graph: whether its symbol file is in the archive."""

    def publish(graph: bool = False) -> dict[str, Any]:
        symbol = build_test(compose(NETWORK), 20)
        shapes, _, aux = symbol.infer_shape(data=(1, 3, 128, 128))
        names = {f"arg:{name}": shape for name, shape in zip(symbol.list_arguments(), shapes, strict=True)}
        names |= {f"aux:{name}": shape for name, shape in zip(symbol.list_auxiliary_states(), aux, strict=True)}
        rng = np.random.default_rng(0)
        params = {
            name: mx.nd.array(rng.uniform(0.5, 1.5, shape) if "batchnorm" in name else rng.normal(0, 0.05, shape))
            for name, shape in names.items()
            if name != "arg:data"
        }
        mx.nd.save(str(tmp_path / "x.params"), params)
        content = (tmp_path / "x.params").read_bytes()
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("model/ssd_x-0007.params", content)
            if graph:
                archive.writestr("model/ssd_x-symbol.json", symbol.tojson())
        server.files["/x.zip"] = out.getvalue()
        register(
            "own/ssd", detector=True, overrides=NETWORK, classes="voc07", backbones=["mobilenet_025"], format="mxnet",
            url=[f"{server.url}/x.zip"], member="*.params", graph="*-symbol.json", mean=[123, 117, 104], std=[1, 1, 1],
            sha1=hashlib.sha1(content).hexdigest(),
        )  # fmt: skip
        return params

    return publish


@pytest.mark.parametrize("graph", [False, True])
def test_a_detector_by_name(released: Callable[..., Any], graph: bool) -> None:
    params = released(graph)
    detector = open_detector(compose(["job=demo", "model=own/ssd", "source=x.jpg", "device=cpu"]))
    assert detector.classes == list(VOC)
    assert (detector.spec.height, detector.spec.compat, detector.spec.backbone) == (128, "mxnet_ssd", "mobilenet_025")
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    (found,) = detector.predict([image])
    assert len(found)
    with mx.name.NameManager():
        symbol = build_test(compose(NETWORK), 20)
    data = mx.nd.array(np.random.default_rng(1).normal(0, 50, (1, 3, 128, 128)))
    args = {name[4:]: array for name, array in params.items() if name.startswith("arg:")}
    aux = {name[4:]: array for name, array in params.items() if name.startswith("aux:")}
    expected = symbol.bind(mx.cpu(), args={**args, "data": data}, aux_states=aux, grad_req="null").forward()[0]
    rows = expected.asnumpy()[0]
    np.testing.assert_allclose(detector.predict_batch(data.asnumpy())[0], rows[rows[:, 0] >= 0], atol=1e-4)


def test_it_is_fetched_once(released: Callable[..., Any], server: SimpleNamespace) -> None:
    released()
    for overrides in ([], ["init.offline=true"]):
        open_detector(compose(["job=eval", "model=own/ssd", "device=cpu", *overrides]))
    assert len(server.asked) == 1


def test_fine_tuning_takes_network_and_classes_of_a_detector(released: Callable[..., Any]) -> None:
    params = released()
    overrides = inherit(["experiments=finetune", "init.weights=own/ssd", "dataset.root=x"])
    assert overrides[:3] == ["backbone=mobilenet_025", "data_shape='128'", "compat=mxnet_ssd"]
    init = trainer_config(compose(overrides)).init
    assert init.mode == "finetune"
    symbol = build_train(compose(overrides), 2)
    source = read_source(init, symbol)
    assert source.classes == list(VOC)
    start = load_matching(symbol, SHAPES, source, ["dog", "unicorn"], by_class=True)
    assert start.rows
    name = "conv_1_conv2d_weight"
    np.testing.assert_array_equal(start.arg_params[name].asnumpy(), params[f"arg:{name}"].asnumpy())
    with pytest.raises(
        UserError, match=r"backbone=resnet50: init.weights=own/ssd is a model of backbone mobilenet_025"
    ):
        inherit(["experiments=finetune", "init.weights=own/ssd", "backbone=resnet50"])


def test_a_backbone_is_no_model(cache: Path) -> None:
    with pytest.raises(UserError, match=r"model=gluon/vgg16: not a detector but a backbone; init.weights=gluon/vgg16"):
        open_detector(compose(["job=demo", "model=gluon/vgg16", "source=x.jpg", "device=cpu"]))


@pytest.mark.parametrize("weights", ["imagenet", "gluon/mobilenet0.25"])
def test_fine_tuning_a_backbone_is_refused(weights: str) -> None:
    with pytest.raises(UserError, match=f"init.weights={weights}: a backbone, which has no classes"):
        compose(["init.mode=finetune", f"init.weights={weights}", "backbone=mobilenet_025"])


def test_a_misspelled_name_is_not_taken_for_a_path() -> None:
    for overrides in (["init.weights=mxnet_ssd/resnet50_500"], ["model=mxnet_ssd/resnet50_500", "job=eval"]):
        with pytest.raises(UserError, match="did you mean 'mxnet_ssd/resnet50_512'"):
            open_detector(compose(overrides))


def test_few_images_from_scratch_are_told_of_weights(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for images, published in ((10_000, ["gluon/vgg16"]), (100, [])):
        advise_weights(images, "vgg16", published)
    assert not caplog.messages
    advise_weights(360, "mobilenet_025", ["gluon/mobilenet0.25", "gluoncv/mobilenet0.25"])
    (line,) = caplog.messages
    assert "on 360 images" in line
    assert "init.weights=imagenet (gluon/mobilenet0.25, gluoncv/mobilenet0.25)" in line
