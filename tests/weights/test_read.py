"""Weights fetched by name from a server on loopback give the features that their own network gives.

The networks are built by gluon with random weights, scales and statistics, and saved in the format of each source. What
is compared is the output of every layer that a head taps, on equal images, each normalized as its network wants it.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.config.compose import compose
from ssd.config.parts import weights_request
from ssd.config.paths import CONF
from ssd.config.targets import make
from ssd.config.weights import read_entry
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError
from ssd.weights.layouts import LAYOUTS, PARTS
from ssd.weights.load import load_weights
from ssd.weights.mapper import layers_of

CLOSE = 1e-5  # of the largest value of a feature
WITH_WEIGHTS = ("Convolution", "BatchNorm", "FullyConnected")


def archive(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(name, content)
    return out.getvalue()


def saved(network: Any, kind: str, folder: Path) -> bytes:
    """A file of gluon, new or as before MXNet 1.2."""
    file = folder / "network.params"
    if kind == "old":
        network.collect_params().save(str(file), strip_prefix=network.prefix)
    else:
        network.save_parameters(str(file))
    return file.read_bytes()


def modules(network: Any, layout: str) -> dict[str, np.ndarray]:
    """The weights of a network as the names of a layout have them, with the counters that torch adds."""
    found = {}
    for layer, (kind, module) in zip(layers(network), LAYOUTS[layout](), strict=False):
        assert layer.kind == kind
        for part, array in layer.arrays.items():
            found[f"{module}.{PARTS[kind][part][0]}"] = array
        if kind == "BatchNorm":
            found[f"{module}.num_batches_tracked"] = np.array(7)
    return found


def layers(network: Any) -> Any:
    arrays = {name: one.data().asnumpy() for name, one in network.collect_params().items()}
    return layers_of(network.features(mx.sym.Variable("data")), arrays)


def before(symbol: Any) -> Iterator[tuple[str, frozenset[int]]]:
    """(node, the layers with weights that it depends on, counted in the order of the graph)."""
    nodes, known, count = json.loads(symbol.tojson())["nodes"], [], 0
    for node in nodes:
        found = frozenset().union(*(known[place] for place, *_ in node["inputs"]))
        if node["op"] in WITH_WEIGHTS:
            found, count = found | {count}, count + 1
        known.append(found)
        if node["op"] != "null":
            yield node["name"], found


def output(symbol: Any, name: str, params: dict[str, Any], image: np.ndarray) -> np.ndarray:
    part = symbol.get_internals()[f"{name}_output"]
    args = {name: params[name] for name in part.list_arguments() if name != "data"}
    aux = {name: params[name] for name in part.list_auxiliary_states()}
    executor = part.bind(mx.cpu(), args={**args, "data": mx.nd.array(image)}, aux_states=aux, grad_req="null")
    return executor.forward(is_train=False)[0].asnumpy()


def differences(
    overrides: list[str], network: Any, theirs: tuple[list[float], list[float]], side: int
) -> dict[str, float]:
    """Tap -> the largest difference to the feature of `network`, relative to its largest value; of every tap that the
    network has. theirs: its mean and std."""
    cfg = compose(overrides)
    request = weights_request(cfg)
    assert request is not None
    with mx.name.NameManager():
        symbol = make(request.network, "backbone", "backbone.network", _partial_=True)(mx.sym.Variable("data"))
    arg_params, aux_params, _ = load_weights(request, symbol)
    image = np.random.default_rng(1).uniform(0, 255, (1, 3, side, side))

    def normalized(mean: Any, std: Any) -> np.ndarray:
        return (image - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))

    original = network.features(mx.sym.Variable("data"))
    more = json.loads(symbol.tojson())["nodes"][5]["op"] == "BatchNorm" and cfg.backbone.name.startswith("densenet")
    heads = cfg.backbone.heads.values()
    taps = sorted({layer for head in heads for layer in head.get("from_layers", []) if layer})
    ours, found = dict(before(symbol)), {}
    for tap in taps:
        if tap == "relu7":  # behind layers that are dense there, see test_mapper.py
            continue
        wanted = frozenset(index - more for index in ours[tap] if index - more >= 0)
        same = [name for name, layers in before(original) if layers == wanted]
        if not same:
            continue
        here = output(symbol, tap, {**arg_params, **aux_params}, normalized(request.mean, request.std))
        params = {name: one.data() for name, one in network.collect_params().items()}
        there = output(original, _before_poolings(original, same)[-1], params, normalized(*theirs))
        assert here.shape == there.shape
        found[tap] = float(np.abs(here - there).max() / np.abs(there).max())
    return found


def _before_poolings(symbol: Any, names: list[str]) -> list[str]:
    """Of the nodes behind the same layers, those in front of a pooling, which a tap never is."""
    kinds = {node["name"]: node["op"] for node in json.loads(symbol.tojson())["nodes"]}
    kept = []
    for name in names:
        if kinds[name] in ("Pooling", "Flatten", "Dropout"):
            break
        kept.append(name)
    return kept


@pytest.fixture
def published(
    server: SimpleNamespace, register: Callable[..., Any], cache: Path, tmp_path: Path, random_network, safetensors
) -> Callable[..., Any]:
    """published(name, architecture, kind, side): the network behind an entry of the registry, after its file is on the
    server; its hash is that of the file. kind: "new" or "old" gluon file, or "safetensors"."""

    def publish(name: str, architecture: str, kind: str = "new", side: int = 64) -> Any:
        entry = read_entry(name)
        network = random_network(architecture, side)
        if kind == "safetensors":
            content = safetensors(modules(network, str(entry.layout)))
            file, member = f"{name.replace('/', '_')}.safetensors", None
            server.files[f"/{file}"] = content
        else:
            content, file, member = saved(network, kind, tmp_path), "x.zip", "network-0000.params"
            server.files[f"/{file}"] = archive(member, content)
        register(name, url=[f"{server.url}/{file}"], file=None, member=member, sha1=hashlib.sha1(content).hexdigest())
        return network

    return publish


GLUON = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize("overrides", [["init.weights=imagenet"], ["init.weights=gluon/mobilenet0.25"]])
def test_mobilenet_of_gluon(published, kind: str, overrides: list[str]) -> None:
    network = published("gluon/mobilenet0.25", "mobilenet0.25", kind)
    found = differences(["backbone=mobilenet_025", *overrides], network, GLUON, 64)
    assert found.keys() == {"conv_6_relu", "conv_12_relu", "conv_14_relu"}
    assert max(found.values()) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "name", "architecture", "kind", "side", "taps"),
    [
        ("mobilenet", "gluon/mobilenet1.0", "mobilenet1.0", "new", 64, 2),
        ("mobilenet_050", "gluoncv/mobilenet0.5", "mobilenet0.5", "old", 64, 3),
        ("resnet50", "gluon/resnet50_v2", "resnet50_v2", "new", 64, 4),
        ("resnet101", "gluon/resnet101_v2", "resnet101_v2", "new", 64, 4),
        ("inceptionv3", "gluon/inceptionv3", "inceptionv3", "new", 299, 3),
        ("inceptionv3", "torchvision/inception_v3", "inceptionv3", "safetensors", 299, 3),
        ("inceptionv3", "timm/inception_v3", "inceptionv3", "safetensors", 299, 3),
        ("densenet121", "gluon/densenet121", "densenet121", "new", 224, 4),
        ("densenet121", "torchvision/densenet121", "densenet121", "safetensors", 224, 4),
        ("densenet121", "timm/densenet121", "densenet121", "safetensors", 224, 4),
        ("vgg16_reduced", "gluon/vgg16", "vgg16", "new", 224, 1),
        ("vgg16_reduced", "torchvision/vgg16_features", "vgg16", "safetensors", 224, 1),
    ],
)
def test_every_backbone_and_source(
    published, backbone: str, name: str, architecture: str, kind: str, side: int, taps: int
) -> None:
    network = published(name, architecture, kind, side)
    entry = read_entry(name)
    found = differences([f"backbone={backbone}", f"init.weights={name}"], network, (entry.mean, entry.std), side)
    print("table:", backbone, name, kind, found)
    assert len(found) == taps
    assert max(found.values()) < CLOSE


def test_the_options_that_weights_need_are_not_taken_away() -> None:
    for overrides, key in (
        (["backbone=mobilenet", "backbone.network.fix_gamma=true"], "fix_gamma=false, is true"),
        (["backbone=inceptionv3", "backbone.network.last_pool=max"], "last_pool=avg, is max"),
    ):
        with pytest.raises(UserError, match=f"needs backbone.network.{key}; with that its outputs would be wrong"):
            compose([*overrides, "init.weights=imagenet"])


def test_another_backbone_is_refused(published) -> None:
    """Also where the registry says that it fits."""
    published("gluon/mobilenet0.25", "mobilenet0.25")
    with pytest.raises(UserError, match=r"weights of backbone=mobilenet_025, not of small"):
        compose(["init.weights=gluon/mobilenet0.25"])


def test_a_file_of_another_network_is_refused_in_one_line(published, register) -> None:
    published("gluon/mobilenet0.25", "mobilenet0.25")
    register(
        "gluon/mobilenet0.25", **{"backbones": ["mobilenet_050"], "url": list(read_entry("gluon/mobilenet0.25").url)}
    )
    cfg = compose(["backbone=mobilenet_050", "init.weights=gluon/mobilenet0.25"])
    with pytest.raises(UserError) as caught:
        load_weights(weights_request(cfg), None)
    assert "layer 1" in str(caught.value)
    assert "weight of shape (8, 3, 3, 3) there, (16, 3, 3, 3) here" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "side"),
    [
        ("resnet18_v1", 224),
        pytest.param("squeezenet1.1", 224, marks=pytest.mark.slow),
        pytest.param("mobilenetv2_0.25", 224, marks=pytest.mark.slow),
        pytest.param("vgg11_bn", 224, marks=pytest.mark.slow),
    ],
)
def test_networks_of_the_zoo_take_their_own_weights(published, backbone: str, side: int) -> None:
    """Layer by layer, the arrays are those of the file."""
    network = published(f"gluon/{backbone}", backbone, side=side)
    request = weights_request(compose([f"backbone={backbone}", "init.weights=imagenet"]))
    assert request is not None
    assert request.entry.name == f"gluon/{backbone}"
    arg_params, aux_params, _ = load_weights(request, None)
    found = {name: array.asnumpy() for name, array in {**arg_params, **aux_params}.items()}
    expected = {name.removeprefix(network.prefix).replace("_running_", "_moving_"): one.data().asnumpy()
                for name, one in network.features.collect_params().items()}  # fmt: skip
    assert len(found) > 30
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-6, err_msg=name)


class Atrous(mx.gluon.HybridBlock):
    """GluonCV's VGG-16 for SSD as its documentation describes it: five stages, their poolings, fc6 and fc7 as a sixth
    stage. Returns relu4_3 and relu7; its input is RGB minus the mean."""

    def __init__(self) -> None:
        super().__init__()
        block = mx.gluon.nn
        with self.name_scope():
            self.stages = block.HybridSequential()
            for count, filters in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
                stage = block.HybridSequential()
                for _ in range(count):
                    stage.add(block.Conv2D(filters, 3, padding=1), block.Activation("relu"))
                self.stages.add(stage)
            dense = block.HybridSequential()
            dense.add(block.Conv2D(1024, 3, padding=6, dilation=6), block.Activation("relu"))
            dense.add(block.Conv2D(1024, 1), block.Activation("relu"))
            self.stages.add(dense)

    def hybrid_forward(self, functions: Any, x: Any) -> Any:  # noqa: N803
        taps = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            taps.append(x)
            if number < 4:
                rounding = "full" if number == 2 else "valid"
                x = functions.Pooling(x, pool_type="max", kernel=(2, 2), stride=(2, 2), pooling_convention=rounding)
            elif number == 4:
                x = functions.Pooling(x, pool_type="max", kernel=(3, 3), stride=(1, 1), pad=(1, 1))
        return taps[3], taps[5]


def fetched(
    server: SimpleNamespace, register: Any, name: str, file: Path, overrides: list[str]
) -> tuple[dict[str, Any], Any]:
    """What is loaded by name of a file that the server publishes: all parameters, and the network that they are for."""
    server.files[f"/{file.name}"] = file.read_bytes()
    register(name, url=[f"{server.url}/{file.name}"], member=None, sha1=None)
    request = weights_request(compose([*overrides, f"init.weights={name}"]))
    assert request is not None
    with mx.name.NameManager():
        symbol = make(request.network, "backbone", "backbone.network", _partial_=True)(mx.sym.Variable("data"))
    arg_params, aux_params, _ = load_weights(request, symbol)
    return {**arg_params, **aux_params}, symbol


@pytest.mark.slow
def test_vgg16_of_gluoncv(server: SimpleNamespace, register: Any, cache: Path, tmp_path: Path) -> None:
    network = Atrous()
    network.initialize(mx.init.Xavier(magnitude=2))
    image = np.random.default_rng(1).uniform(-100, 100, (1, 3, 72, 72))
    expected = [feature.asnumpy() for feature in network(mx.nd.array(image))]
    network.save_parameters(str(tmp_path / "vgg16_atrous.params"))
    params, symbol = fetched(
        server, register, "gluoncv/vgg16_atrous", tmp_path / "vgg16_atrous.params", ["backbone=vgg16_reduced"]
    )
    assert params.keys() == set(symbol.list_arguments()) - {"data"}
    for tap, feature in zip(("relu4_3", "relu7"), expected, strict=True):
        found = output(symbol, tap, params, image)
        print("table: vgg16_reduced gluoncv/vgg16_atrous", tap, float(np.abs(found - feature).max() / feature.max()))
        assert np.abs(found - feature).max() < CLOSE * feature.max()


def parameters(symbol: Any) -> dict[str, Any]:
    """Random ones of a network that normalizes plain levels itself, if it normalizes its input."""
    shapes, _, aux = symbol.infer_shape(data=(1, 3, 64, 64))
    named = [*zip(symbol.list_arguments(), shapes, strict=True), *zip(symbol.list_auxiliary_states(), aux, strict=True)]
    rng, found = np.random.default_rng(0), {}
    for name, shape in named:
        if name.endswith(("gamma", "var")):
            found[name] = mx.nd.array(rng.uniform(0.5, 1.5, shape))
        elif name != "data":
            scale = np.sqrt(1.5 / np.prod(shape[1:])) if name.endswith("weight") else 0.1
            found[name] = mx.nd.array(rng.normal(0, scale, shape))
    if "bn_data_moving_mean" in found:
        found |= {
            "bn_data_moving_mean": mx.nd.array([122, 115, 102]),
            "bn_data_moving_var": mx.nd.array([3e3, 3.1e3, 3.2e3]),
        }
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "name", "raw"),
    [("resnet50", "mxnet/resnet-50", True), ("resnet101", "mxnet/resnet-101", True),
     ("vgg16_reduced", "mxnet_ssd/vgg16_reduced", False)],
)  # fmt: skip
def test_files_under_the_names_of_mxnet(
    server: SimpleNamespace, register: Any, cache: Path, tmp_path: Path, backbone: str, name: str, raw: bool
) -> None:
    """raw: published for levels of 0..255, which images here are not: the same features all the same."""
    cfg = compose([f"backbone={backbone}"]).backbone
    with mx.name.NameManager():
        symbol = make(cfg.network, "backbone", "backbone.network", _partial_=True)(mx.sym.Variable("data"))
    params = parameters(symbol)
    kinds = dict.fromkeys(symbol.list_auxiliary_states(), "aux")
    file = tmp_path / "network-0000.params"
    mx.nd.save(str(file), {f"{kinds.get(one, 'arg')}:{one}": array for one, array in params.items()})
    found, _ = fetched(server, register, name, file, [f"backbone={backbone}"])
    image = np.random.default_rng(1).uniform(0, 255, (1, 3, 64, 64))
    normalized = (image - np.reshape(list(cfg.input.mean), (3, 1, 1))) / np.reshape(list(cfg.input.std), (3, 1, 1))
    for tap in sorted({layer for head in cfg.heads.values() for layer in head.get("from_layers", []) if layer}):
        there = output(symbol, tap, params, image if raw else normalized)
        here = output(symbol, tap, found, normalized)
        print("table:", backbone, name, tap, float(np.abs(here - there).max() / np.abs(there).max()))
        assert np.abs(here - there).max() < CLOSE * np.abs(there).max()


def test_an_npz_by_a_table_of_names(server: SimpleNamespace, register: Any, cache: Path, tmp_path: Path) -> None:
    overrides = ["backbone=mobilenet_025"]
    with mx.name.NameManager():
        network = compose(overrides).backbone.network
        symbol = make(network, "backbone", "backbone.network", _partial_=True)(mx.sym.Variable("data"))
    params, table, arrays = parameters(symbol), OmegaConf.load(CONF / "weight_map" / "mobilenet_torch.yaml"), {}
    for layer, names in table.layers.items():
        for module, parts in zip(names, table.parts, strict=True):
            arrays |= {f"{module}.{there}": params[f"{layer}_{here}"].asnumpy() for there, here in parts.items()}
    np.savez(tmp_path / "x.npz", **arrays)
    keys = {
        "backbones": ["mobilenet_025"],
        "format": "npz",
        "weight_map": "mobilenet_torch",
        "mean": [1, 2, 3],
        "std": [4, 5, 6],
    }
    register("own/x", url=["http://127.0.0.1:9/none"], **keys)
    found, _ = fetched(server, register, "own/x", tmp_path / "x.npz", overrides)
    assert found.keys() == params.keys()
    for name, array in params.items():
        expected = array.asnumpy()
        if name.endswith("gamma"):  # for another epsilon than ours
            variance = params[name.replace("gamma", "moving_var")].asnumpy()
            expected = expected * np.sqrt((variance + 1e-3) / (variance + table.epsilon))
        np.testing.assert_allclose(found[name].asnumpy(), expected, rtol=1e-5, err_msg=name)
    assert list(compose([*overrides, "init.weights=own/x"]).backbone.input.mean) == [1, 2, 3]
