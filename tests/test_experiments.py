"""Every recipe of experiments/ composes, says what it expects, and trains for two steps through the real code."""

import csv
import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import DictConfig

from ssd.config import compose
from ssd.jobs import train
from ssd.overrides import groups

ROOT = Path(__file__).resolve().parents[1]
NAMES = groups()["experiments"]
TABLES = {  # rows of the original's table, and of COCO's
    "voc_vgg16_300": ("vgg16_reduced", 300), "voc_vgg16_512": ("vgg16_reduced", 512),
    "voc_inceptionv3_512": ("inceptionv3", 512), "voc_resnet50_512": ("resnet50", 512),
    "voc_mobilenet_512": ("mobilenet", 512), "voc_mobilenet_608": ("mobilenet", 608),
    "coco_vgg16_300": ("vgg16_reduced", 300), "coco_vgg16_512": ("vgg16_reduced", 512),
    "coco_resnet50_512": ("resnet50", 512), "coco_mobilenet_512": ("mobilenet", 512),
}  # fmt: skip


def picture(folder: Path, name: str) -> None:
    """120 x 100 pixels of noise with a bright box at (20, 30) .. (80, 90)."""
    image = np.random.default_rng(0).integers(0, 80, (100, 120, 3), dtype=np.uint8)
    image[30:90, 20:80] = 240
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / name), image)


def voc_folder(root: Path, sets: dict[str, list[str]], label: str) -> None:
    """One year of VOC: the pictures of each set, each with one object."""
    for name, pictures in sets.items():
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(pictures) + "\n")
        (root / "Annotations").mkdir(exist_ok=True)
        for stem in pictures:
            picture(root / "JPEGImages", f"{stem}.jpg")
            (root / "Annotations" / f"{stem}.xml").write_text(
                f"<annotation><filename>{stem}.jpg</filename><size><width>120</width><height>100</height><depth>3</depth>"
                f"</size><object><name>{label}</name><difficult>0</difficult><bndbox><xmin>21</xmin><ymin>31</ymin>"
                "<xmax>80</xmax><ymax>90</ymax></bndbox></object></annotation>"
            )


def coco_folder(root: Path) -> None:
    for split, count in (("train2017", 2), ("val2017", 1)):
        images = [{"id": n, "file_name": f"{n}.jpg", "width": 120, "height": 100} for n in range(count)]
        for image in images:
            picture(root / split, str(image["file_name"]))
        boxes = [{"id": n, "image_id": n, "category_id": 18, "bbox": [20, 30, 60, 60], "area": 3600, "iscrowd": 0}
                 for n in range(count)]  # fmt: skip
        content = {"images": images, "annotations": boxes, "categories": [{"id": 18, "name": "dog"}]}
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def tiny_words(cfg: DictConfig, folder: Path) -> list[str]:
    """Makes two pictures to train on and one to measure, in the format the recipe wants; the words that name them."""
    root = folder / "data"
    name = cfg.dataset.name
    if name == "shapes":
        return ["dataset.train=2", "dataset.val=1"]
    if name == "coco2017":
        coco_folder(root)
    elif name == "voc0712":
        voc_folder(root / "VOC2007", {"trainval": ["000001"], "test": ["000002"]}, "dog")
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


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if compose([f"experiments={name}"]).job.name == "train"])
def test_every_recipe_trains(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = f"experiments={name}"
    words = tiny_words(compose([recipe]), tmp_path)
    words += ["batch_size=1", "epochs=1", "device=cpu", "logger=[]", "loader.workers=0", "training.samples=0"]
    words.append("init.mode=scratch")  # others need a file
    run = tmp_path / "run"
    run.mkdir()
    train.run(compose([recipe, *words]), run)
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["2"]
    assert 0 < float(rows[0]["train/loss"]) < 1000
    assert os.listdir(run / "checkpoints")
