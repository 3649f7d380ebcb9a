"""Every recipe of experiments/ composes, says what it expects, and trains for two steps through the real code."""

import csv
import json
import os
import re
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from ssd.config import weights
from ssd.config.compose import compose
from ssd.config.overrides import groups
from ssd.config.targets import make
from ssd.jobs import train
from ssd.mxnet_compat import mx
from ssd.weights.cache import place_of

ROOT = Path(__file__).resolve().parents[1]
NAMES = groups()["experiments"]
TABLES = {  # rows of the original's table, and of COCO's
    "voc_vgg16_300": ("vgg16_reduced", 300), "voc_vgg16_512": ("vgg16_reduced", 512),
    "voc_inceptionv3_512": ("inceptionv3", 512), "voc_resnet50_512": ("resnet50", 512),
    "voc_mobilenet_512": ("mobilenet", 512), "voc_mobilenet_608": ("mobilenet", 608),
    "coco_vgg16_300": ("vgg16_reduced", 300), "coco_vgg16_512": ("vgg16_reduced", 512),
    "coco_resnet50_512": ("resnet50", 512), "coco_mobilenet_512": ("mobilenet", 512),
}  # fmt: skip


def write_image(folder: Path, name: str) -> None:
    """120 x 100 pixels of patches of its own with a bright box at (20, 30) .. (80, 90)."""
    patches = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 160, (5, 6, 3), dtype=np.uint8)
    image = patches.repeat(20, axis=0).repeat(20, axis=1)
    image[30:90, 20:80] = 240
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / name), image)


def voc_folder(root: Path, sets: dict[str, list[str]], label: str) -> None:
    """One year of VOC: the images of each set, each with one object."""
    for name, images in sets.items():
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(images) + "\n")
        (root / "Annotations").mkdir(exist_ok=True)
        for stem in images:
            write_image(root / "JPEGImages", f"{stem}.jpg")
            (root / "Annotations" / f"{stem}.xml").write_text(
                f"<annotation><filename>{stem}.jpg</filename><size><width>120</width><height>100</height><depth>3</depth>"
                f"</size><object><name>{label}</name><difficult>0</difficult><bndbox><xmin>21</xmin><ymin>31</ymin>"
                "<xmax>80</xmax><ymax>90</ymax></bndbox></object></annotation>"
            )


def coco_folder(root: Path, train: int) -> None:
    for split, count in (("train2017", train), ("val2017", 1)):
        images = [{"id": n, "file_name": f"{n}.jpg", "width": 120, "height": 100} for n in range(count)]
        for image in images:
            write_image(root / split, str(image["file_name"]))
        boxes = [{"id": n, "image_id": n, "category_id": 18, "bbox": [20, 30, 60, 60], "area": 3600, "iscrowd": 0}
                 for n in range(count)]  # fmt: skip
        content = {"images": images, "annotations": boxes, "categories": [{"id": 18, "name": "dog"}]}
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def tiny_overrides(cfg: DictConfig, folder: Path) -> list[str]:
    """Makes two images to train on and one to measure, in the format the recipe wants; the overrides that name them."""
    root = folder / "data"
    name = cfg.dataset.name
    if name == "shapes":
        return ["dataset.train=2", "dataset.val=1"]
    if name.startswith("coco2017"):
        coco_folder(root, 3 if name.endswith("_val") else 2)  # of which one is held out
    elif name.startswith("voc0712"):
        sets = {"trainval": ["000001"], "test": ["000002"], "train": ["000001"], "val": ["000003"]}
        voc_folder(root / "VOC2007", sets, "dog")
        voc_folder(root / "VOC2012", {"trainval": ["2008_000001"]}, "dog")
    else:
        voc_folder(root, {"train": ["a", "b"], "val": ["c"]}, "cell")
    return [f"dataset.root={root}"]


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_says_what_it_is_for(name: str) -> None:
    text = (ROOT / "experiments" / f"{name}.yaml").read_text()
    lines = text.splitlines()
    assert lines[0] == "# @package _global_"
    assert 5 <= len(lines) <= 40
    assert f"experiments={name}" in text
    if name in TABLES:
        cfg = compose([f"experiments={name}"])
        assert (cfg.backbone.name, cfg.data_shape.height) == TABLES[name]
        assert re.search(r"Expected (mAP|AP)[^:]*: \d\d\.\d", " ".join(lines[:4]))


def test_every_row_of_the_tables_has_a_recipe() -> None:
    assert set(TABLES) <= set(NAMES)


ANCHORS = {  # pixels, a size per layer and one more, as published
    # Caffe's ssd_pascal.py and, for 512 pixels, the paper's network; mxnet-ssd has the same
    "voc_vgg16_300": (300, [30, 60, 111, 162, 213, 264, 315]),
    "voc_vgg16_512": (512, [35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6]),
    # mxnet-ssd's symbol_factory.py: get_scales(min_scale=0.2 or 0.15, max_scale=0.9)
    "voc_inceptionv3_512": (512, [51.2, 102.4, 189.44, 276.48, 363.52, 450.56, 537.6]),
    "voc_resnet50_512": (512, [51.2, 102.4, 189.44, 276.48, 363.52, 450.56, 537.6]),
    "voc_mobilenet_512": (512, [35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6]),
    "voc_mobilenet_608": (608, [42.56, 91.2, 182.4, 273.6, 364.8, 456, 547.2, 638.4]),
    # Caffe's ssd_coco.py; torchvision and GluonCV
    "coco_vgg16_300": (300, [21, 45, 99, 153, 207, 261, 315]),
    # lufficc/SSD and mmdetection, after Caffe's script for COCO at 512 pixels
    "coco_vgg16_512": (512, [20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72]),
    # GluonCV's presets.py
    "coco_resnet50_512": (512, [51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72]),
    "coco_mobilenet_512": (512, [51.2, 102.4, 189.4, 276.4, 363.52, 450.6, 492]),
}


@pytest.mark.parametrize("plus", ["", "_plus"])
@pytest.mark.parametrize("name", TABLES)
def test_anchors_are_those_that_the_expected_figure_was_reached_with(name: str, plus: str) -> None:
    cfg = compose([f"experiments={name}{plus}"])
    side, pixels = ANCHORS[name]
    expected = [[small, (small * large) ** 0.5] for small, large in zip(pixels[:-1], pixels[1:], strict=True)]
    np.testing.assert_allclose(np.array(cfg.head.sizes) * side, expected, rtol=1e-6)
    three, five = {0.5, 1, 2}, {1 / 3, 0.5, 1, 2, 3}
    middle = len(expected) - 3
    ratios = [{round(ratio, 6) for ratio in layer} for layer in cfg.head.ratios]
    assert ratios == [{round(ratio, 6) for ratio in layer} for layer in [three, *[five] * middle, three, three]]
    assert cfg.data_shape.height == cfg.data_shape.width == side


@pytest.mark.parametrize("name", [name for name in TABLES if name.startswith("voc_")])
def test_rate_and_decay_are_mxnet_ssds_in_the_loss_of_the_run(name: str) -> None:
    """0.004 and 0.0005 on a quarter of our gradient; tests/training/test_optimizers.py takes the step."""
    for overrides, rate, decay in (([], 0.001, 0.002), (["compat=mxnet_ssd"], 0.004, 0.0005)):
        optimizer = compose([f"experiments={name}", *overrides]).optimizer
        assert (optimizer.name, optimizer.momentum) == ("sgd", 0.9)
        assert (optimizer.learning_rate, optimizer.wd) == (rate, decay)


@pytest.mark.parametrize("name", TABLES)
def test_the_split_that_the_best_epoch_is_chosen_on(name: str) -> None:
    """The published protocol chose on the reported images, says the recipe; ours does not, and neither does `_val`."""
    dataset = compose([f"experiments={name}"]).dataset
    assert dataset.splits.val == dataset.splits.test
    text = " ".join((ROOT / "experiments" / f"{name}.yaml").read_text().replace("#", " ").split())
    honest = f"{dataset.name}_val"
    assert "the best epoch is chosen on the images it is reported on" in text
    assert f"With dataset={honest} it is chosen" in text
    for overrides in ([f"experiments={name}", f"dataset={honest}"], [f"experiments={name}_plus"]):
        other = compose(overrides).dataset
        assert other.name == honest
        assert other.splits.test == dataset.splits.test
        assert other.splits.val != other.splits.test
        if dataset.name == "coco2017":  # whose val is cut from train
            assert round(118287 * other.holdout.val) == 5000
            assert (other.splits.train, other.splits.val) == (dataset.splits.train, None)
        else:
            assert other.splits == {
                "train": ["VOC2007/train", "VOC2012/trainval"], "val": ["VOC2007/val"], "test": ["VOC2007/test"]
            }  # fmt: skip


def publish(cfg: DictConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts random numbers into the cache in place of the weights that a recipe starts from."""
    name = weights.chosen(cfg.init.weights, cfg.backbone.weights)
    if name is None:
        return
    entry = weights.read_entry(name)
    own = folder / "own" / f"{name}.yaml"
    own.parent.mkdir(parents=True)
    keys = {"format": "mxnet", "file": "x-0000.params", "backbones": list(entry.backbones), "options": entry.options}
    own.write_text(yaml.safe_dump(keys))
    monkeypatch.setattr(weights, "folders", lambda: [own.parents[1]])
    monkeypatch.setenv("SSD_CACHE", str(folder / "cache"))
    network = OmegaConf.to_container(cfg.backbone.network, resolve=True)
    with mx.name.NameManager():
        symbol = make(network, "backbone", "backbone.network", _partial_=True)(mx.sym.Variable("data"))
    shapes, _, aux_shapes = symbol.infer_shape(data=(1, 3, 256, 256))
    rng = np.random.default_rng(0)
    args = {one: rng.normal(0, 0.02, shape) for one, shape in zip(symbol.list_arguments(), shapes, strict=True)}
    states = zip(symbol.list_auxiliary_states(), aux_shapes, strict=True)
    arrays = {f"arg:{one}": mx.nd.array(array) for one, array in args.items() if one != "data"}
    arrays |= {f"aux:{one}": (mx.nd.ones if one.endswith("var") else mx.nd.zeros)(shape) for one, shape in states}
    place = place_of(weights.read_entry(name))
    place.mkdir(parents=True)
    mx.nd.save(str(place / "x-0000.params"), arrays)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if compose([f"experiments={name}"]).job.name == "train"])
def test_every_recipe_trains(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = f"experiments={name}"
    overrides = tiny_overrides(compose([recipe]), tmp_path)
    overrides += ["batch_size=1", "epochs=1", "device=cpu", "logger=[]", "loader.workers=0", "training.samples=0"]
    if compose([recipe]).init.mode == "finetune":
        overrides.append("init.mode=scratch")  # instead of a model
    publish(compose([recipe]), tmp_path, monkeypatch)
    run = tmp_path / "run"
    run.mkdir()
    train.run(compose([recipe, *overrides]), run)
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["2"]
    assert 0 < float(rows[0]["train/loss"]) < 1000
    assert os.listdir(run / "checkpoints")
