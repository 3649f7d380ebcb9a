"""GluonCV's SSD on VGG-16: its definition is written down here once more, with NumPy and plain convolutions."""

import hashlib
import shutil
from ast import literal_eval
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from ssd.checkpoint.model import Model
from ssd.config import weights
from ssd.config.compose import compose
from ssd.config.parts import NetworkConfig, network_config, trainer_config
from ssd.config.paths import CONF
from ssd.detection.detector import Detector
from ssd.export.agreement import LIMIT, ModelUnderTest, agreement
from ssd.export.formats import FORMATS, Calibration
from ssd.importers.gluoncv_ssd import is_gluoncv, load_gluoncv
from ssd.jobs.common import requested_model
from ssd.mxnet_compat import mx
from ssd.symbol import build_train
from ssd.symbol.anchors import anchor_grids
from ssd.training.start import load_matching, read_source
from ssd.utils.errors import UserError
from ssd.weights.gluoncv import gluoncv_classes, open_gluoncv

Arrays = dict[str, np.ndarray]

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of images in 0..1
STAGES = (2, 64), (2, 128), (3, 256), (3, 512), (3, 512)
THREE, FIVE = [1, 2, 0.5], [1, 2, 0.5, 3, 1 / 3]


@dataclass(frozen=True)
class Definition:
    """As published: sides and steps of anchors in pixels; filters, kernel, stride and pad of the extra layers."""

    side: int
    classes: int
    sizes: tuple[float, ...]
    steps: tuple[int, ...]
    extras: tuple[tuple[int, int, int, int], ...]

    @property
    def ratios(self) -> list[list[float]]:
        return [THREE, *[FIVE] * (len(self.steps) - 3), THREE, THREE]


EXTRAS_300 = (512, 3, 2, 1), (256, 3, 2, 1), (256, 3, 1, 0), (256, 3, 1, 0)
EXTRAS_512 = (512, 3, 2, 1), (256, 3, 2, 1), (256, 3, 2, 1), (256, 3, 2, 1), (256, 4, 1, 1)
STEPS_300, STEPS_512 = (8, 16, 32, 64, 100, 300), (8, 16, 32, 64, 128, 256, 512)
SIZES_512 = (51.2, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6)
PUBLISHED = {
    "ssd_300_vgg16_atrous_voc": Definition(300, 20, (30, 60, 111, 162, 213, 264, 315), STEPS_300, EXTRAS_300),
    "ssd_300_vgg16_atrous_coco": Definition(300, 80, (21, 45, 99, 153, 207, 261, 315), STEPS_300, EXTRAS_300),
    "ssd_512_vgg16_atrous_voc": Definition(512, 20, SIZES_512, STEPS_512, EXTRAS_512),
    "ssd_512_vgg16_atrous_coco": Definition(512, 80, SIZES_512, STEPS_512, EXTRAS_512),
}
VOC = "ssd_300_vgg16_atrous_voc"


def test_names_of_the_classes() -> None:
    assert [len(classes_of(name)) for name in PUBLISHED] == [20, 80, 20, 80]
    assert classes_of(VOC)[:2] == ["aeroplane", "bicycle"]
    assert classes_of("ssd_512_vgg16_atrous_coco")[11:13] == ["stop sign", "parking meter"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_anchors_of_the_configuration(name: str) -> None:
    definition = PUBLISHED[name]
    grids = anchor_grids(network_of(name))
    ours = np.concatenate([grid.boxes() for grid in grids]) * definition.side
    sides = [grid.rows for grid in grids]
    assert sides == ([38, 19, 10, 5, 3, 1] if definition.side == 300 else [64, 32, 16, 8, 4, 2, 1])
    theirs = np.concatenate([anchors(definition, number, side).reshape(-1, 4) for number, side in enumerate(sides)])
    np.testing.assert_allclose(ours, corners(theirs), atol=1e-4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[Path, Arrays]]]:
    """saved(name) -> a parameter file of this definition with random weights, and what is in it."""
    made: dict[str, tuple[Path, Arrays]] = {}

    def save(name: str) -> tuple[Path, Arrays]:
        if name not in made:
            arrays = random_arrays(PUBLISHED[name])
            path = tmp_path_factory.mktemp("gluoncv") / f"{name}-01234567.params"
            write(path, arrays)
            made[name] = path, arrays
        return made[name]

    yield save
    for path, _ in made.values():
        path.unlink()  # they have a hundred megabytes


@pytest.mark.parametrize(
    "name",
    [
        name if name.endswith("300_vgg16_atrous_voc") else pytest.param(name, marks=pytest.mark.slow)
        for name in PUBLISHED
    ],
)
def test_boxes_are_those_of_the_definition(name: str, saved, same_detections) -> None:
    path, arrays = saved(name)
    definition = PUBLISHED[name]
    image = blocks(definition.side)
    expected, lowest = detect(definition, arrays, image)
    assert len(expected) == 100
    model = load_gluoncv(path, network_of(name), classes_of(name))
    found = Detector(model, mx.cpu(), 1).predict([image])[0]
    assert len(found) == 100
    assert len({*found[:, 0]}) > 5
    same_detections(found[found[:, 1] >= lowest], expected, keep=100)


def test_an_export_has_the_same_boxes(saved, tmp_path: Path) -> None:
    """Boxes are not clipped before suppression there either."""
    path, _ = saved(VOC)
    model = load_gluoncv(path, network_of(VOC), classes_of(VOC))
    raw = Detector(model, mx.cpu(), 1).forward(np.zeros((1, 3, 300, 300), np.float32))[1]
    assert raw.min() < 0
    assert raw.max() > 1
    FORMATS["onnx"].write(model, tmp_path / "ssd.onnx", Calibration(lambda: [], "minmax"))
    exported = ModelUnderTest.of_file(tmp_path / "ssd.onnx", mx.cpu())
    result = agreement(ModelUnderTest.of_model(model, mx.cpu()), exported, [blocks(300)])
    assert result.before <= LIMIT
    assert not result.differing


def zeros() -> Arrays:
    """Arrays of the right names and shapes, without the anchors."""
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes(PUBLISHED[VOC]).items()}
    arrays["features.init_scale"] = (STD * 255).reshape(1, 3, 1, 1)
    return arrays


def without(name: str) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.pop(name)  # type: ignore[func-returns-value, return-value]


def becomes(name: str, value: np.ndarray) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: value})


WRONG = [
    (without("features.norm4.scale"), "missing: relu4_3_scale"),
    (becomes("features.stages.0.1.gamma", np.zeros(64)), "has features.stages.0.1.gamma; expected GluonCV"),
    (becomes("features.stages.2.2.weight", np.zeros((1, 256, 3, 3))), r"conv3_2_weight has shape \(1, 256, 3, 3\)"),
    (becomes("features.init_scale", np.ones((1, 3, 1, 1))), "features.init_scale is"),
    (without("class_predictors.5.predictor.weight"), "has predictors on 5 maps, expected 6 at 300 pixels"),
    (becomes("class_predictors.0.predictor.weight", np.zeros((42, 512, 3, 3))), "has 42 rows, expected a multiple"),
    (becomes("class_predictors.0.predictor.weight", np.zeros((12, 512, 3, 3))), "predicts 2 classes, expected 20"),
    (
        becomes("anchor_generators.1.anchors", np.tile([8.0, 8, 45, 45], 6 * 64 * 64).reshape(1, 1, 64, 64, 24)),
        "map 1 has other anchors than head.sizes, of 60 and 81.61 pixels",
    ),
    (becomes("anchor_generators.0.anchors", np.zeros((1, 7))), "map 0 has other anchors"),
]  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """Of a hundred megabytes, which do not stay."""
    yield tmp_path / "net.params"
    (tmp_path / "net.params").unlink()


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_other_networks_are_refused(change: Callable[[Arrays], None], message: str, file: Path) -> None:
    arrays = zeros()
    change(arrays)
    write(file, arrays)
    with pytest.raises(UserError, match=message) as error:
        load_gluoncv(file, network_of(VOC), classes_of(VOC))
    assert "\n" not in str(error.value)


def test_constants_in_the_file_are_not_needed(file: Path) -> None:
    arrays = zeros()
    del arrays["features.init_scale"]
    write(file, arrays)
    model = load_gluoncv(file, network_of(VOC), classes_of(VOC))
    assert isinstance(model, Model)
    assert model.spec.mean == [123.675, 116.28, 103.53]


def test_files_are_recognized_by_their_names(tmp_path: Path, checkpoint: Path) -> None:
    write(tmp_path / "net.params", {"class_predictors.0.predictor.weight": np.zeros((84, 1))})
    write(tmp_path / "other.params", {"features.stages.0.0.weight": np.zeros(1)})
    (tmp_path / "text.params").write_text("no arrays")
    assert is_gluoncv(tmp_path / "net.params")
    assert gluoncv_classes(tmp_path / "net.params") == classes_of(VOC)
    for other in (tmp_path / "other.params", tmp_path / "text.params", tmp_path / "none.params", tmp_path, checkpoint):
        assert not is_gluoncv(other)


@pytest.fixture
def by_name(saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a detector that the registry has at the address of the random file, and an empty cache."""
    path, _ = saved(VOC)
    keys = {"url": [path.as_uri()], "member": None, "sha1": hashlib.sha1(path.read_bytes()).hexdigest()}
    (tmp_path / "gluoncv").mkdir()
    (tmp_path / "gluoncv" / f"{VOC}.yaml").write_text(yaml.safe_dump({**entry(VOC), **keys}))
    monkeypatch.setattr(weights, "folders", lambda: [tmp_path, CONF / "weights"])
    monkeypatch.setenv("SSD_CACHE", str(tmp_path / "cache"))
    return f"gluoncv/{VOC}"


def test_the_same_model_by_name_and_by_path(by_name: str, saved, tmp_path: Path) -> None:
    path, arrays = saved(VOC)
    specs = []
    for model in (by_name, str(path)):
        found = requested_model(compose([f"model={model}", "job=demo", "detection.score_threshold=0.3"]))
        assert isinstance(found, Model)
        assert np.array_equal(found.arg_params["fc7_weight"].asnumpy(), arrays["features.stages.5.2.weight"])
        specs.append(found.spec)
    assert specs[0] == specs[1]
    assert specs[0].classes == classes_of(VOC)
    assert specs[0].mean == entry(VOC)["mean"]
    assert (specs[0].detection["keep"], specs[0].detection["score"]) == (100, 0.3)
    shutil.rmtree(tmp_path / "cache")


@pytest.mark.parametrize("by_path", [False, True])
def test_a_training_starts_from_one(by_name: str, by_path: bool, saved, tmp_path: Path) -> None:
    """Rows of classes with equal names are loaded; the others are initialized."""
    path, arrays = saved(VOC)
    given = [*entry(VOC)["overrides"], "init.mode=finetune", f"init.weights={path if by_path else by_name}"]
    cfg = compose([*given, "dataset.classes=[car, tractor]", "dataset._target_=x", "dataset=custom"])
    symbol = build_train(cfg)
    source = read_source(trainer_config(cfg).init, symbol)
    shapes = {"data": (1, 3, 300, 300), "label": (1, 1, 6)}
    start = load_matching(symbol, shapes, source, cfg.dataset.classes, by_class=True)
    assert np.array_equal(start.arg_params["conv4_3_bias"].asnumpy(), arrays["features.stages.3.4.bias"])
    places, values = start.rows["relu7_cls_pred_conv_bias"]
    assert places[:4] == [0, 1, 3, 4]  # background and car of two anchors
    stored = arrays["class_predictors.1.predictor.bias"]
    car = 1 + classes_of(VOC).index("car")
    assert np.array_equal(values[:4], stored[[0, car, 21, 21 + car]])
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


@pytest.mark.parametrize("of", ["ssd_300_vgg16_atrous_coco", VOC])
def test_classes_of_their_own_need_names(of: str, file: Path) -> None:
    """A network that was trained on two classes; the anchors in its file decide between sizes of VOC and COCO."""
    own = replace(PUBLISHED[of], classes=2)
    constants = {"anchor_generators.0.anchors": anchors(own, 0, 64)[None, None]}
    write(file, {**{name: np.zeros(shape) for name, shape in shapes(own).items()}, **constants})
    with pytest.raises(UserError, match="predicts 2 classes; name them"):
        open_gluoncv(file, None)
    model = open_gluoncv(file, ["cat", "dog"])
    assert model.spec.classes == ["cat", "dog"]
    sizes = literal_eval(model.symbol.attr_dict()["relu4_3_anchors"]["sizes"])
    assert sizes[0] == pytest.approx(own.sizes[0] / 300)


def entry(name: str) -> dict:
    return yaml.safe_load((CONF / "weights" / "gluoncv" / f"{name}.yaml").read_text())


@lru_cache
def network_of(name: str) -> NetworkConfig:
    content = entry(name)
    normal = [f"backbone.input.mean={content['mean']}", f"backbone.input.std={content['std']}"]
    return network_config(compose([*content["overrides"], *normal]))


def classes_of(name: str) -> list[str]:
    dataset = yaml.safe_load((CONF / "dataset" / f"{entry(name)['classes']}.yaml").read_text())
    return dataset.get("classes") or dataset["names"]


def write(path: Path, arrays: Arrays) -> None:
    mx.nd.save(str(path), {name: mx.nd.array(array) for name, array in arrays.items()})


def blocks(side: int) -> np.ndarray:
    """An image [side, side, 3] uint8 of random blocks."""
    coarse = np.random.default_rng(3).integers(0, 256, (side // 20 + 1, side // 20 + 1, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((20, 20, 1), np.uint8))[:side, :side]


# The definition: names and shapes of the parameters, the network, its anchors, and decoding.


def shapes(definition: Definition) -> dict[str, tuple[int, ...]]:
    """Of the parameters, by GluonCV's names. Activations are elements of their sequences, too."""
    found: dict[str, tuple[int, ...]] = {}

    def add(name: str, filters: int, channels: int, kernel: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (filters, channels, kernel, kernel), (filters,)

    channels = 3
    for stage, (convolutions, filters) in enumerate(STAGES):
        for number in range(convolutions):
            add(f"features.stages.{stage}.{2 * number}", filters, channels, 3)
            channels = filters
    add("features.stages.5.0", 1024, 512, 3)
    add("features.stages.5.2", 1024, 1024, 1)
    found["features.norm4.scale"] = (1, 512, 1, 1)
    maps, channels = [512, 1024], 1024
    for number, (filters, kernel, _, _) in enumerate(definition.extras):
        add(f"features.extras.{number}.0", filters // 2, channels, 1)
        add(f"features.extras.{number}.2", filters, filters // 2, kernel)
        maps.append(channels := filters)
    for number, (channels, ratios) in enumerate(zip(maps, definition.ratios, strict=True)):
        add(f"class_predictors.{number}.predictor", (len(ratios) + 1) * (definition.classes + 1), channels, 3)
        add(f"box_predictors.{number}.predictor", (len(ratios) + 1) * 4, channels, 3)
    return found


def random_arrays(definition: Definition) -> Arrays:
    """A whole file: parameters whose signals keep their size, predictors that spread, and the constants."""
    rng = np.random.default_rng(1)
    arrays = {
        name: rng.normal(0, np.sqrt(2 / np.prod(shape[1:])) if len(shape) == 4 else 0.1, shape).astype(np.float32)
        for name, shape in shapes(definition).items()
    }
    arrays["features.norm4.scale"] = rng.uniform(15, 25, (1, 512, 1, 1)).astype(np.float32)
    arrays["features.init_scale"] = (STD * 255).reshape(1, 3, 1, 1).astype(np.float32)
    alloc = 128
    for number in range(len(definition.steps)):
        arrays[f"anchor_generators.{number}.anchors"] = anchors(definition, number, alloc)[None, None].astype(
            np.float32
        )
        alloc = max(alloc // 2, 16)
    for number, feature in enumerate(features(definition, arrays, blocks(definition.side))):
        for kind, spread in (("class", 1.5), ("box", 1.0)):
            name = f"{kind}_predictors.{number}.predictor"
            outputs = convolution(feature, arrays, name, pad=1).asnumpy()
            middle = outputs.mean(axis=(0, 2, 3))  # features are positive: without it a class would win everywhere
            varying = outputs.shape[2] > 1  # one cell differs from no other
            factor = spread / (outputs - middle[:, None, None] if varying else outputs).std()
            arrays[f"{name}.weight"] *= factor
            arrays[f"{name}.bias"] = (arrays[f"{name}.bias"] - middle) * factor
    return arrays


def convolution(data: mx.nd.NDArray, arrays: Arrays, name: str, stride: int = 1, pad: int = 0, dilate: int = 1):
    weight, bias = (mx.nd.array(arrays[f"{name}.{part}"]) for part in ("weight", "bias"))
    sides = {"kernel": weight.shape[2:], "stride": (stride,) * 2, "pad": (pad,) * 2, "dilate": (dilate,) * 2}
    return mx.nd.Convolution(data, weight, bias, num_filter=weight.shape[0], **sides)


def features(definition: Definition, arrays: Arrays, image: np.ndarray) -> list[mx.nd.NDArray]:
    """The maps [1, C, h, w] that the predictors look at, of an image in 0..255."""

    def pool(data: mx.nd.NDArray, kernel: int, stride: int, pad: int) -> mx.nd.NDArray:
        return mx.nd.Pooling(
            data, pool_type="max", kernel=(kernel,) * 2, stride=(stride,) * 2, pad=(pad,) * 2, pooling_convention="full"
        )

    standard = ((image / 255 - MEAN) / STD).transpose(2, 0, 1)[None]
    data = mx.nd.array(standard * arrays["features.init_scale"])
    found = []
    for stage, (convolutions, _) in enumerate(STAGES):
        for number in range(convolutions):
            data = mx.nd.relu(convolution(data, arrays, f"features.stages.{stage}.{2 * number}", pad=1))
        if stage == 3:
            values = data.asnumpy()
            length = np.sqrt((values**2).sum(axis=1, keepdims=True) + 1e-5)
            found.append(mx.nd.array(values / length * arrays["features.norm4.scale"]))
        data = pool(data, 2, 2, 0) if stage < 4 else pool(data, 3, 1, 1)
    data = mx.nd.relu(convolution(data, arrays, "features.stages.5.0", pad=6, dilate=6))
    data = mx.nd.relu(convolution(data, arrays, "features.stages.5.2"))
    found.append(data)
    for number, (_, _, stride, pad) in enumerate(definition.extras):
        data = mx.nd.relu(convolution(data, arrays, f"features.extras.{number}.0"))
        data = mx.nd.relu(convolution(data, arrays, f"features.extras.{number}.2", stride=stride, pad=pad))
        found.append(data)
    return found


def anchors(definition: Definition, number: int, cells: int) -> np.ndarray:
    """[cells, cells, 4 K] of map `number`: center x and y, width and height in pixels of each anchor, after another."""
    size, step = definition.sizes[number], definition.steps[number]
    shapes = [(size, size), (np.sqrt(size * definition.sizes[number + 1]),) * 2]
    shapes += [(size * np.sqrt(ratio), size / np.sqrt(ratio)) for ratio in definition.ratios[number][1:]]
    rows = [
        [[(x + 0.5) * step, (y + 0.5) * step, width, height] for width, height in shapes]
        for y in range(cells)
        for x in range(cells)
    ]
    return np.array(rows).reshape(cells, cells, -1)


def corners(boxes: np.ndarray) -> np.ndarray:
    """[N, 4] (xmin, ymin, xmax, ymax) of centers and sizes."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def detect(definition: Definition, arrays: Arrays, image: np.ndarray) -> tuple[np.ndarray, float]:
    """Detections [N, 6] (class, score, corners in pixels) of an image, best first, and the score of the weakest
    candidate of suppression."""
    scores, offsets, boxes = [], [], []
    for number, feature in enumerate(features(definition, arrays, image)):
        for kind, rows, width in (("class", scores, definition.classes + 1), ("box", offsets, 4)):
            map_ = convolution(feature, arrays, f"{kind}_predictors.{number}.predictor", pad=1).asnumpy()
            rows.append(map_.transpose(0, 2, 3, 1).reshape(-1, width))
        boxes.append(anchors(definition, number, feature.shape[2]).reshape(-1, 4))
    logits, offset, anchor = (np.concatenate(part).astype(np.float64) for part in (scores, offsets, boxes))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    prob = (odds / odds.sum(axis=1, keepdims=True))[:, 1:]
    center = offset[:, :2] * 0.1 * anchor[:, 2:] + anchor[:, :2]
    decoded = corners(np.concatenate([center, np.exp(offset[:, 2:] * 0.2) * anchor[:, 2:]], axis=1))
    place, label = np.nonzero(prob > 0.01)
    order = np.argsort(-prob[place, label], kind="stable")[:400]
    rows = np.column_stack([label[order], prob[place[order], label[order]], decoded[place[order]]])
    kept: list[np.ndarray] = []
    for row in rows:
        if all(row[0] != other[0] or overlap(row[2:], other[2:]) <= 0.45 for other in kept):
            kept.append(row)
    found = np.array(kept[:100])
    found[:, 2:] = found[:, 2:].clip(0, definition.side)
    return found, float(rows[-1, 1])


def overlap(box: np.ndarray, other: np.ndarray) -> float:
    inter = np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None).prod()
    return float(inter / ((box[2:] - box[:2]).prod() + (other[2:] - other[:2]).prod() - inter))
