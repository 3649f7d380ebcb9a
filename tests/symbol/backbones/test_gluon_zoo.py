"""gluon's model zoo as backbones: which layers the detector uses, names, and that all of them train."""

import json
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.config.compose import compose
from ssd.config.parts import trainer_config
from ssd.config.paths import CONF
from ssd.mxnet_compat import mx
from ssd.symbol import build_test, build_train, feature_maps
from ssd.symbol.backbones import gluon_zoo
from ssd.training.groups import frozen_names
from ssd.training.trainer import Trainer
from ssd.utils.errors import UserError

# Layers behind stride8, stride16, stride32, their channels, and their sides at 300 pixels. Those of ResNet v1 and of
# MobileNet v1 are what GluonCV's detectors use.
TAPS = {
    "densenet161": (("relu2", 768, 37), ("relu3", 2112, 18), ("relu4", 2208, 9)),
    "densenet169": (("relu2", 512, 37), ("relu3", 1280, 18), ("relu4", 1664, 9)),
    "densenet201": (("relu2", 512, 37), ("relu3", 1792, 18), ("relu4", 1920, 9)),
    "mobilenet0.75": (("relu10", 192, 38), ("relu22", 384, 19), ("relu26", 768, 10)),
    **{
        f"mobilenetv2_{width}": (
            ("features_linearbottleneck6_relu60_relu6", fine, 38),
            ("features_linearbottleneck13_relu60_relu6", middle, 19),
            ("features_relu61_relu6", 1280, 10),
        )
        for width, fine, middle in (("0.25", 48, 144), ("0.5", 96, 288), ("0.75", 144, 432), ("1.0", 192, 576))
    },
    **{
        f"resnet{depth}_v1": (
            (f"stage2_activation{fine}", 128 * wider, 38),
            (f"stage3_activation{middle}", 256 * wider, 19),
            (f"stage4_activation{coarse}", 512 * wider, 10),
        )
        for depth, wider, fine, middle, coarse in (
            (18, 1, 1, 1, 1), (34, 1, 3, 5, 2), (50, 4, 3, 5, 2), (101, 4, 3, 22, 2), (152, 4, 7, 35, 2),
        )
    },
    **{
        f"resnet{depth}_v2": (
            ("stage3_activation0", 128 * wider, 38),
            ("stage4_activation0", 256 * wider, 19),
            ("relu1", 512 * wider, 10),
        )
        for depth, wider in ((18, 1), (34, 1), (50, 4), (101, 4), (152, 4))
    },
    "squeezenet1.0": (("concat6", 512, 36), ("concat7", 512, 18)),
    "squeezenet1.1": (("concat3", 256, 37), ("concat7", 512, 18)),
    "vgg11_bn": (("relu5", 512, 37), ("relu7", 512, 18)),
    "vgg13_bn": (("relu7", 512, 37), ("relu9", 512, 18)),
    "vgg16_bn": (("relu9", 512, 37), ("relu12", 512, 18)),
    "vgg19_bn": (("relu11", 512, 37), ("relu15", 512, 18)),
}  # fmt: skip
QUICK = ("mobilenetv2_0.25", "resnet18_v1", "resnet18_v2", "squeezenet1.1")
BASES = {"gluon", "gluon_stride16"}
BATCH, SIDE = 2, 64


@pytest.mark.parametrize("name", TAPS)
def test_layers_of_the_detector(name: str) -> None:
    expected = TAPS[name]
    found = gluon_zoo.taps(name)
    assert [found[stride] for stride in (8, 16, 32)[: len(expected)]] == [layer for layer, _, _ in expected]
    maps = feature_maps(compose([f"backbone={name}", "data_shape=300"]))[: len(expected)]
    assert [layer.name for layer in maps] == ["stride8", "stride16", "stride32"][: len(expected)]
    assert [(layer.channels, layer.height) for layer in maps] == [(channels, side) for _, channels, side in expected]


@pytest.mark.parametrize("name", QUICK)
def test_at_512_pixels_the_last_map_is_small(name: str) -> None:
    maps = feature_maps(compose([f"backbone={name}", "data_shape=512"]))
    assert len(maps) == 7
    assert maps[0].height >= 63
    assert maps[-1].height <= 2


def test_every_network_of_the_configuration_is_in_the_table() -> None:
    bases = [[name, "_self_"] for name in BASES]
    files = {file.stem: OmegaConf.load(file) for file in (CONF / "backbone").glob("*.yaml")}
    zoo = {name for name, content in files.items() if content.get("defaults") in bases} - BASES
    assert zoo == {*TAPS}
    assert all(files[name].name == name for name in zoo)
    assert zoo <= {*gluon_zoo.NETWORKS}


@pytest.mark.parametrize("name", QUICK)
def test_names_are_those_of_gluon_and_the_same_twice(name: str) -> None:
    first = gluon_zoo.build(mx.sym.Variable("data"), name)
    mx.gluon.model_zoo.vision.get_model(name)  # counts on in MXNet's own names
    gluon_zoo._traced.cache_clear()
    assert gluon_zoo.build(mx.sym.Variable("data"), name).tojson() == first.tojson()
    network = mx.gluon.model_zoo.vision.get_model(name, prefix="some_")
    theirs = {parameter.removeprefix("some_") for parameter in network.features.collect_params()}
    ours = {*first.list_arguments(), *first.list_auxiliary_states()} - {"data"}
    assert {parameter.replace("_moving_", "_running_") for parameter in ours} <= theirs
    graph = build_train(compose([f"backbone={name}"]), 2)
    nodes = [node["name"] for node in json.loads(graph.tojson())["nodes"]]
    assert len(nodes) == len(set(nodes))
    layers = {parameter.rpartition("_")[0] for parameter in ours if parameter.endswith(("_weight", "_gamma"))}
    assert layers <= {*nodes}  # parameters are named after their layers, as those of other backbones


@pytest.mark.parametrize("name", QUICK)
def test_maps_are_those_of_the_network(name: str) -> None:
    """With the same parameters every map is what gluon's own network has there, within rounding."""
    network = mx.gluon.model_zoo.vision.get_model(name, prefix="some_")
    network.initialize(mx.init.Xavier())
    data = mx.nd.array(np.random.default_rng(0).normal(0, 1, (1, 3, SIDE, SIDE)))
    network(mx.nd.zeros((1, 3, 224, 224)))
    with mx.name.NameManager():  # gluon counts concatenations by it
        inside = network.features(mx.sym.Variable("data")).get_internals()
    values = {parameter: value.data() for parameter, value in network.collect_params().items()}
    ours = gluon_zoo.build(mx.sym.Variable("data"), name).get_internals()
    for stride, layer in gluon_zoo.taps(name).items():
        outputs = []
        for symbol, renamed in ((_output(inside, layer), False), (ours[f"stride{stride}_output"], True)):
            named = {
                parameter.removeprefix("some_").replace("_running_", "_moving_") if renamed else parameter: value
                for parameter, value in values.items()
            }
            args = {key: named[key] for key in symbol.list_arguments() if key != "data"}
            aux = {key: named[key] for key in symbol.list_auxiliary_states()}
            executor = symbol.bind(mx.cpu(), args={**args, "data": data}, aux_states=aux, grad_req="null")
            outputs.append(executor.forward()[0].asnumpy())
        assert np.abs(outputs[0]).max() > 0
        np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)


def _output(inside: mx.sym.Symbol, layer: str) -> mx.sym.Symbol:
    names = (f"some_{layer}_fwd_output", f"some_{layer}_output", f"{layer}_output")
    return inside[next(name for name in names if name in inside.list_outputs())]


class Batches:
    """Noise with one object per image."""

    provide_data = [mx.io.DataDesc("data", (BATCH, 3, SIDE, SIDE))]
    provide_label = [mx.io.DataDesc("label", (BATCH, 1, 6))]

    @staticmethod
    def batch(seed: int) -> Any:
        data = np.random.default_rng(seed).normal(0, 1, (BATCH, 3, SIDE, SIDE))
        label = mx.nd.array([[[0, 0.1, 0.2, 0.5, 0.7, 0]], [[1, 0.4, 0.3, 0.9, 0.8, 0]]])
        return mx.io.DataBatch([mx.nd.array(data)], [label], pad=0)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TAPS]
)
def test_two_steps_of_training(name: str) -> None:
    overrides = [f"backbone={name}", f"data_shape={SIDE}", "optimizer=sgd", "optimizer.learning_rate=0.0001"]
    cfg = compose([*overrides, "schedule=constant"])
    trainer = Trainer(trainer_config(cfg), ["a", "b"], Batches, 2)
    before = {key: value.asnumpy() for key, value in trainer.params()[0].items()}
    losses = [trainer.step(Batches.batch(seed)).loss for seed in range(2)]
    assert np.isfinite(losses).all()
    after = {key: value.asnumpy() for key, value in trainer.params()[0].items()}
    weights = [key for key in after if key.endswith("_weight")]
    still = [key for key in weights if np.array_equal(before[key], after[key])]
    assert not [key for key in still if not key.startswith("multi_feat_")]  # maps without anchors of any object
    assert all(np.isfinite(value).all() for value in after.values())


def test_stages_and_names_can_be_frozen() -> None:
    graph = build_train(compose(["backbone=resnet18_v1"]), 2)
    shapes = {"data": (1, 3, 128, 128), "label": (1, 1, 6)}
    early = frozen_names(graph, "stage:2", shapes)
    assert {"conv0_weight", "batchnorm0_gamma", "stage1_conv3_weight"} <= {*early}
    assert not [name for name in early if name.startswith(("stage2_", "stride", "multi_feat"))]
    assert frozen_names(graph, "^(conv0|batchnorm0|stage1)_", shapes) == early


def test_weight_decay_is_the_configured_one() -> None:
    """gluon gives every variable factors of its own."""
    attributes = build_test(compose(["backbone=resnet18_v1"]), 2).attr_dict()
    assert "__wd_mult__" not in attributes.get("stage1_batchnorm0_gamma", {})
    assert "__lr_mult__" not in attributes.get("stage1_conv0_weight", {})


def test_any_network_of_the_zoo_by_name() -> None:
    assert feature_maps(compose(["backbone=gluon", "backbone.name=densenet121"]))[1].channels == 1024
    assert feature_maps(compose(["backbone=gluon_stride16", "backbone.name=vgg13"]))[1].channels == 512


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_unknown_networks_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"backbone.name={name}: expected a network of gluon's model zoo"):
        build_test(compose(["backbone=gluon", f"backbone.name={name}"]), 2)
