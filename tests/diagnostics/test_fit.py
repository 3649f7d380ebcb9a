import json

import numpy as np
import pytest

from ssd.config.compose import compose
from ssd.config.parts import network_config
from ssd.data.datasets.voc import VOC
from ssd.diagnostics.fit import Network, anchors_of, fit_layer, layer_of, suggest, within_reach
from ssd.diagnostics.statistics import Boxes, gather
from ssd.symbol.anchors import AnchorGrid, anchor_grids
from ssd.symbol.features import feature_maps
from ssd.symbol.head import head_layers


def network(*overrides: str) -> Network:
    cfg = compose(overrides)
    network = network_config(cfg)
    return Network(feature_maps(network), head_layers(network), network.input.shape, network.compat)


def boxes_of(shapes: np.ndarray, size: tuple[int, int], seed: int = 0) -> Boxes:
    """Boxes of these widths and heights, at random places of images of one size."""
    count = len(shapes)
    low = np.random.default_rng(seed).uniform(0, 1, (count, 2)) * (np.array(size) - shapes)
    zeros = np.zeros(count, int)
    corners = np.hstack([low, low + shapes]).astype(np.float32)
    return Boxes(zeros, corners, np.tile(np.float32(size), (count, 1)), zeros > 0, zeros)


def test_anchors_of_a_cell_by_hand():
    assert anchors_of(np.array([10.0, 20.0]), np.array([1.0, 4.0])).tolist() == [[10, 10], [20, 20], [20, 5]]


def test_the_coarsest_layer_that_is_fine_enough():
    shapes = np.array([[10.0, 10], [40, 40], [80, 300], [300, 300], [1, 1]])
    assert layer_of(shapes, [8, 16, 32], 0.4).tolist() == [0, 1, 2, 2, 0]
    assert layer_of(shapes, [32, 8, 16], 0.4).tolist() == [1, 2, 0, 0, 1]


def test_boxes_between_two_cells():
    """Cells of 0.5: a box of 0.3 at a center, one of 0.3 and one of 1 half a step away from both, by hand."""
    grid = AnchorGrid("fine", 2, 2, (0.5, 0.5), np.ones((1, 2)))
    boxes = np.array([[0.1, 0.1, 0.4, 0.4], [0.35, 0.1, 0.65, 0.4], [0, 0.25 - 0.5, 1, 0.25 + 0.5]])
    assert within_reach([grid], boxes, 0.5)[:, 0].tolist() == [True, False, True]  # 1, 1/11, 3/5
    assert within_reach([grid], boxes, 0.65)[:, 0].tolist() == [True, False, False]


def test_what_a_layer_can_express_is_found():
    random = np.random.default_rng(0)
    truth = anchors_of(np.array([60.0, 100.0]), np.array([1.0, 3.0, 0.4]))
    shapes = (truth[:, None] * np.exp(random.normal(0, 0.02, (4, 80, 2)))).reshape(-1, 2)
    sizes, ratios = fit_layer(shapes, 2, 3, seed=0)
    np.testing.assert_allclose(sizes, [60, 100], rtol=0.05)
    np.testing.assert_allclose(sorted(ratios), [0.4, 1, 3], rtol=0.1)
    assert ratios[0] == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("overrides", [[], ["data_shape=[96,160]"], ["data_shape=[96,160]", "compat=mxnet_ssd"]])
def test_odd_boxes_get_anchors_and_the_network_keeps_its_shape(overrides):
    random = np.random.default_rng(0)
    given = network(*overrides)
    shapes = np.exp(random.normal(np.log([9, 50]), 0.15, (400, 2)))  # far higher than wide
    found = suggest(given, boxes_of(shapes, (160, 96)), 0.5, seed=0)
    assert found.after.share > found.before.share + 0.3
    assert any(found.fitted)
    for old, new in zip(given.layers, found.layers, strict=True):
        assert (len(old.sizes), len(old.ratios)) == (len(new.sizes), len(new.ratios))
        assert new.anchors_per_cell == old.anchors_per_cell
    cfg = compose([*overrides, f"head.sizes={[list(layer.sizes) for layer in found.layers]}".replace(" ", ""),
                   f"head.ratios={[list(layer.ratios) for layer in found.layers]}".replace(" ", "")])  # fmt: skip
    for grid, wanted in zip(anchor_grids(network_config(cfg)), given.grids(found.layers), strict=True):
        np.testing.assert_allclose(grid.shapes, wanted.shapes, rtol=1e-6)


def test_never_worse_and_deterministic():
    random = np.random.default_rng(3)
    given = network()
    for seed in range(3):
        boxes = boxes_of(np.exp(random.uniform(np.log(8), np.log(110), (60, 2))), (128, 128), seed)
        one, two = (suggest(given, boxes, 0.5, seed=5) for _ in range(2))
        assert one.after.share >= one.before.share
        assert one.layers == two.layers


def test_too_few_boxes_change_nothing():
    given = network()
    found = suggest(given, boxes_of(np.array([[30.0, 9.0]] * 5), (128, 128)), 0.5, seed=0)
    assert found.layers == given.layers
    assert not any(found.fitted)
    assert found.after is found.before


@pytest.mark.parametrize(
    ("name", "overrides", "gain"),
    [
        ("bccd", [], 0.02),
        ("bccd", ["backbone=vgg16_reduced", "data_shape=300"], 0.02),
        ("voc2007_mini", [], 0.05),
        ("voc2007_mini", ["backbone=vgg16_reduced", "data_shape=300"], 0.03),
        ("coco_tiny", [], 0.05),
        ("coco_tiny", ["backbone=vgg16_reduced", "data_shape=300"], 0.05),
    ],
)
def test_real_datasets(shared, name, overrides, gain):
    found = suggest(network(*overrides), real_boxes(shared / "data", name), 0.5, seed=0)
    assert found.after.share >= found.before.share + gain
    assert found.after.best.mean() > found.before.best.mean()


def real_boxes(data, name: str) -> Boxes:
    if name == "coco_tiny":
        content = json.loads((data / name / "annotations/instances_train2017.json").read_text())
        sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
        rows = [(a["bbox"], sizes[a["image_id"]]) for a in content["annotations"] if not a["iscrowd"]]
        xywh, of = (np.array(column, np.float32) for column in zip(*rows, strict=True))
        zeros = np.zeros(len(rows), int)
        return Boxes(zeros, np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]), of, zeros > 0, zeros)
    root, train = {"bccd": ("bccd/BCCD", "train"), "voc2007_mini": ("voc2007_mini/VOCdevkit", "VOC2007/trainval")}[name]
    return gather(
        VOC(name, str(data / root), None, {"train": [train]}, None, "error", {"val": 0, "test": 0, "seed": 0}).split(
            "train"
        )
    )
