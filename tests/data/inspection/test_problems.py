import json

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.config.compose import compose
from ssd.data.datasets.build import make_dataset
from ssd.data.inspection.problems import Problem, collect, collecting, reject, skip_invalid
from ssd.utils.errors import UserError


def test_without_a_collector_problems_are_errors():
    with pytest.raises(UserError, match="^a.xml: broken$"), skip_invalid("unusable", "a.xml"):
        raise UserError("a.xml: broken")
    with pytest.raises(UserError, match="^a.xml: object 2 is odd$"):
        reject(UserError("a.xml: object 2 is odd"), "object", "a.xml", 2)
    assert not collect(Problem("object", "a.xml", 1, "odd"))


def test_a_collector_gets_them_all_and_nothing_stops():
    with collecting() as problems:
        with skip_invalid("unusable", "a.xml"):
            raise UserError("a.xml: broken")
        reject(UserError("b.xml: object 2 (dog) has no <xmin>"), "object", "b.xml", 2)
        assert collect(Problem("degenerate", "c.xml", 1, "flat", "warning"))
    assert problems == [
        Problem("unusable", "a.xml", None, "broken", "error"),
        Problem("object", "b.xml", 2, "(dog) has no <xmin>", "error"),
        Problem("degenerate", "c.xml", 1, "flat", "warning"),
    ]
    assert not collect(problems[0])  # it is over


def test_only_user_errors_are_problems():
    with collecting() as problems, pytest.raises(ZeroDivisionError), skip_invalid("unusable", "a.xml"):
        _ = 1 / 0
    assert problems == []


def test_voc_tells_everything_at_once_and_training_still_stops_at_the_first(voc):
    voc.add("a", [("dog", 5, 5, 70, 20), ("cow", 1, 1, 9, 9), ("cat", 9, 9, 4, 20), ("cat", 5, 5, 5, 9)])
    voc.xml("b").write_bytes(b"<annotation>")
    voc.xml("c").write_bytes(
        b"<annotation><size><width>60</width><height>40</height></size><object><name>cat</name></object>"
        b"<object><name>cat</name><bndbox><xmin>50</xmin><ymin>5</ymin><xmax>40</xmax><ymax>9</ymax></bndbox></object>"
        b"</annotation>"
    )
    voc.sets(train=["a", "b", "c", "nowhere"])
    dataset = voc.dataset(classes=["cat", "dog"])
    with pytest.raises(UserError, match="object 2: class 'cow'"):
        dataset.split("train")
    with collecting() as problems:
        samples = dataset.split("train")
    assert [(sample.id, len(sample.boxes)) for sample in samples] == [("a", 1), ("c", 0)]
    message = [(p.kind, p.file.rpartition("/")[2], p.object, p.severity) for p in problems]
    assert message == [
        ("class", "a.xml", 2, "error"),
        ("out_of_range", "a.xml", 1, "error"),
        ("swapped", "a.xml", 3, "error"),
        ("degenerate", "a.xml", 4, "warning"),
        ("unusable", "b.xml", None, "error"),
        ("object", "c.xml", 1, "error"),
        ("swapped", "c.xml", 2, "error"),
        ("unusable", "nowhere.xml", None, "error"),
    ]
    assert problems[0].what.startswith("class 'cow' is not in dataset.classes; dataset.classes has cat, dog (")


@pytest.mark.parametrize("kind", ["coco", "yolo", "csv"])
def test_every_format_goes_on_after_a_bad_image(kind, tmp_path):
    """An image that is no image, or an object of no known class, costs that image alone when somebody collects."""
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.zeros((40, 60, 3), np.uint8))
    options: dict = {"name": "x", "root": str(tmp_path), "out_of_range": "error", "classes": ["cat"]}
    options |= {"holdout": {"val": 0.0, "test": 0.0, "seed": 0}}
    if kind == "coco":
        images = [{"id": k, "file_name": f"{n}.jpg", "width": 60, "height": 40} for k, n in enumerate("abc")]
        boxes = [{"id": k, "image_id": k, "category_id": k // 2, "bbox": [1, 1, 9, 9], "iscrowd": 0} for k in range(3)]
        names = [{"id": 0, "name": "cat"}, {"id": 1, "name": "cow"}]
        (tmp_path / "x.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": names}))
        node = {"dataset": "coco", "splits": {"train": {"annotations": "x.json", "images": "."}}}
    elif kind == "yolo":
        (tmp_path / "c.jpg").write_bytes(b"no image")
        for name in "abc":
            (tmp_path / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
        node = {"dataset": "yolo", "splits": {"train": "."}, "names": ["cat"]}
    else:
        rows = "".join(
            f"{name}.jpg,{label},1,1,9,9\n" for name, label in zip("abc", ("cat", "cat", "cow"), strict=True)
        )
        (tmp_path / "x.csv").write_text("image,label,xmin,ymin,xmax,ymax\n" + rows)
        node = {"dataset": "csv", "splits": {"train": "x.csv"}}
    cfg = compose([f"dataset={node.pop('dataset')}"]).dataset
    OmegaConf.set_struct(cfg, False)
    dataset = make_dataset(OmegaConf.merge(cfg, options, node))
    with pytest.raises(UserError):
        dataset.split("train")
    with collecting() as problems:
        assert [sample.id for sample in dataset.split("train")] == ["a", "b"]
    assert len(problems) == 1
