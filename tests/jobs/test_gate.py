"""Samples that cannot be used, in every format: each job refuses them in the same overrides, or leaves them out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssd.config.compose import compose
from ssd.data.base import Sample
from ssd.data.datasets import coco_json, voc_xml, yolo_text
from ssd.data.datasets.coco_json import CocoImage
from ssd.data.datasets.voc_xml import VOCObject
from ssd.data.recordio.format import encode
from ssd.data.recordio.writer import label_of
from ssd.jobs import anchors, check, deploy, eval, prepare, train
from ssd.jobs.common import open_gate
from ssd.utils.errors import UserError

CLASSES = ["circle", "rectangle", "traffic light"]
SIZE = (60, 40)
SPLITS = {"train": ["t0", "t1", "t2", "t3"], "val": ["v0", "v1", "v2"]}
BOX = (10.0, 5.0, 40.0, 30.0)


class Images:
    """The images of both splits and what is annotated, before a format writes it. The first of each split is harmed."""

    def __init__(self) -> None:
        names = [name for split in SPLITS.values() for name in split]
        self.data = {name: jpeg(SIZE, seed) for seed, name in enumerate(names)}
        self.boxes: dict[str, list[tuple[float, ...]]] = {name: [BOX] for name in names}
        self.sizes = dict.fromkeys(names, SIZE)
        self.lists = {split: list(members) for split, members in SPLITS.items()}

    def rows(self, name: str) -> np.ndarray:
        """float32 [N, 6]: all of class 1."""
        return np.array([(1, *box, 0) for box in self.boxes[name]], np.float32).reshape(-1, 6)


def jpeg(size: tuple[int, int], seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", cv2.resize(noise, size))[1].tobytes()


def write_voc(root: Path, images: Images) -> list[str]:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, data in images.data.items():
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(data)
        objects = [VOCObject(CLASSES[1], box, 0) for box in images.boxes[name]]
        (root / "Annotations" / f"{name}.xml").write_bytes(voc_xml.write("", *images.sizes[name], objects))
    for split, members in images.lists.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(members) + "\n")
    return ["dataset=voc", "dataset.splits.test=[]"]


def write_coco(root: Path, images: Images) -> list[str]:
    root.mkdir()
    for name, data in images.data.items():
        (root / f"{name}.jpg").write_bytes(data)
    for split, members in images.lists.items():
        entries = [CocoImage(place, f"{name}.jpg", *images.sizes[name]) for place, name in enumerate(members, start=1)]
        rows = [images.rows(name) for name in members]
        text = coco_json.write(entries, rows, dict(enumerate(CLASSES, start=1)))
        (root / f"{split}.json").write_text(text)
    return ["dataset=coco", *(f"dataset.splits.{split}={{annotations:{split}.json,images:.}}" for split in SPLITS)]


def write_yolo(root: Path, images: Images) -> list[str]:
    for split, members in images.lists.items():
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for name in members:
            (root / "images" / split / f"{name}.jpg").write_bytes(images.data[name])
            (root / "labels" / split / f"{name}.txt").write_text(yolo_text.write(images.rows(name), SIZE))
    return ["dataset=yolo", f"dataset.names={CLASSES}"]


def write_csv(root: Path, images: Images) -> list[str]:
    root.mkdir()
    for name, data in images.data.items():
        (root / f"{name}.jpg").write_bytes(data)
    for split, members in images.lists.items():
        lines = ["image,label,xmin,ymin,xmax,ymax"]
        for name in members:
            lines += [f"{name}.jpg,{CLASSES[1]},{','.join(map(str, box))}" for box in images.boxes[name]]
            lines += [] if images.boxes[name] else [f"{name}.jpg,,,,,"]
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return ["dataset=csv", "dataset.splits.val=val.csv"]


def write_rec(root: Path, images: Images) -> list[str]:
    root.mkdir()
    for split, members in images.lists.items():
        records, lines = [], []
        for place, name in enumerate(members):
            label = label_of(Sample(name, Path(name), *SIZE, images.rows(name)))
            records.append(encode(place, label, images.data[name]))
            lines.append(f"{place}\t" + "\t".join(map(str, label.tolist())) + f"\t{name}.jpg")
        (root / f"{split}.rec").write_bytes(b"".join(records))
        (root / f"{split}.lst").write_text("\n".join(lines) + "\n")
    return ["dataset=rec", f"dataset.names={CLASSES}"]


WRITERS: dict[str, Callable[[Path, Images], list[str]]] = {
    "voc": write_voc, "coco": write_coco, "yolo": write_yolo, "csv": write_csv, "rec": write_rec,
}  # fmt: skip


def first(images: Images) -> list[str]:
    return [members[0] for members in images.lists.values()]


def truncated(images: Images) -> None:
    for name in first(images):
        images.data[name] = images.data[name][:-50]


def no_image(images: Images) -> None:
    for name in first(images):
        images.data[name] = f"<html>404: {name}</html>".encode()


def undecodable(images: Images) -> None:
    """Whole by its markers, with tables that no decoder takes."""
    for name in first(images):
        data = bytearray(images.data[name])
        place = data.index(b"\xff\xc4")
        data[place + 5 : place + 21] = b"\xff" * 16
        images.data[name] = bytes(data)


def resized(images: Images) -> None:
    for name in first(images):
        images.data[name] = cv2.imencode(".jpg", cv2.resize(cv2.imdecode(np.frombuffer(images.data[name], np.uint8), 1),
                                                            (30, 20)))[1].tobytes()  # fmt: skip


def shares(images: Images) -> None:
    for name in first(images):
        images.boxes[name] = [(0.2, 0.1, 0.7, 0.8)]


def without_objects(images: Images) -> None:
    images.boxes = {name: [] for name in images.boxes}


DAMAGED = [
    (truncated, tuple(WRITERS), "the image file is truncated"),
    (no_image, tuple(WRITERS), "the image file is no JPEG, PNG, BMP or WebP"),
    (undecodable, tuple(WRITERS), "the image cannot be decoded, it is damaged or truncated"),
    # The other formats take the size of an image from its file, and boxes as shares of it.
    (resized, ("voc", "coco"), "the image is 30x20 but its annotation says 60x40"),
    (shares, ("voc", "coco", "csv"), "all boxes end at the first pixel: these are shares 0..1, not pixels"),
]
CASES = [
    pytest.param(harm, kind, text, id=f"{harm.__name__}-{kind}") for harm, kinds, text in DAMAGED for kind in kinds
]


@pytest.fixture
def overrides(tmp_path: Path) -> Callable[..., list[str]]:
    def make(harm: Callable[[Images], None], kind: str) -> list[str]:
        images = Images()
        harm(images)
        common = [f"dataset.root={tmp_path / 'data'}", f"dataset.classes={CLASSES}", "batch_size=2", "device.threads=1"]
        common += [f"training.records={tmp_path / 'records'}", "logger=[]", "data_shape=64"]
        return [*WRITERS[kind](tmp_path / "data", images), *common]

    return make


def refusal(job: Any, overrides: list[str], folder: Path) -> str:
    folder.mkdir()
    with pytest.raises(UserError) as error:
        job.run(compose(overrides), folder)
    return str(error.value)


@pytest.mark.parametrize(("harm", "kind", "text"), CASES)
def test_every_job_refuses_in_the_same_overrides(harm, kind, text, overrides, tmp_path, checkpoint):
    data = overrides(harm, kind)
    model = f"model={checkpoint}"
    message = {
        "train": refusal(train, data, tmp_path / "train"),
        "prepare": refusal(prepare, ["job=prepare", *data], tmp_path / "prepare"),
        "eval": refusal(eval, ["job=eval", model, *data], tmp_path / "eval"),
        "deploy": refusal(deploy, ["job=deploy", model, *data], tmp_path / "deploy"),
    }
    for job, line in message.items():
        harmed = "v0" if job in ("eval", "deploy") else "t0"
        assert harmed in line, job
        assert text in line, job
        assert line.endswith("dataset.on_error=skip leaves such images out)"), job
        assert "\n" not in line, job
    listed = (tmp_path / "train" / "problems.csv").read_text()
    assert "t0" in listed
    assert "v0" in listed
    assert "not safe to train: 2 errors" in refusal(check, ["job=check", *data], tmp_path / "check")
    findings = json.loads((tmp_path / "check" / "check.json").read_text())["findings"]["list"]
    errors = [finding for finding in findings if finding["severity"] == "error"]
    assert [(finding["split"], text in finding["what"]) for finding in errors] == [("train", True), ("val", True)]
    assert not list((tmp_path / "records").glob("*/*-*"))


def test_jobs_that_read_train_alone_refuse_too(overrides, tmp_path):
    data = overrides(truncated, "voc")
    for job, override in ((anchors, "job=anchors"), (check, "check.overfit=2")):
        line = refusal(job, [*([] if job is anchors else ["job=check"]), override, *data], tmp_path / override)
        assert line.endswith("t0.jpg: the image file is truncated (dataset.on_error=skip leaves such images out)")


@pytest.mark.parametrize(("harm", "kind", "text"), CASES)
def test_skip_leaves_it_out_everywhere(harm, kind, text, overrides, tmp_path, caplog):
    data = [*overrides(harm, kind), "dataset.on_error=skip"]
    folder = tmp_path / "prepare"
    folder.mkdir()
    prepare.run(compose(["job=prepare", *data]), folder)
    report = json.loads((folder / "prepare.json").read_text())["splits"]
    assert [report[split]["images"] for split in SPLITS] == [3, 2]
    assert caplog.text.count("skipped: ") == 2
    assert (folder / "problems.csv").read_text().count("\n") == 3
    admitted = open_gate(compose(data)).admit(["train", "val"], None)
    assert {split: [sample.path.stem for sample in part] for split, part in admitted.samples.items()} == {
        "train": ["t1", "t2", "t3"],
        "val": ["v1", "v2"],
    }
    folder = tmp_path / "check"
    folder.mkdir()
    check.run(compose(["job=check", *data]), folder)
    assert json.loads((folder / "check.json").read_text())["safe"]


@pytest.mark.parametrize("kind", WRITERS)
def test_without_an_object_nothing_is_trained_or_measured(kind, overrides, tmp_path, checkpoint):
    data = [*overrides(without_objects, kind), "dataset.on_error=skip"]
    message = {
        "train": refusal(train, data, tmp_path / "train"),
        "prepare": refusal(prepare, ["job=prepare", *data], tmp_path / "prepare"),
        "eval": refusal(eval, ["job=eval", f"model={checkpoint}", *data], tmp_path / "eval"),
        "deploy": refusal(deploy, ["job=deploy", f"model={checkpoint}", *data], tmp_path / "deploy"),
    }
    assert message["prepare"] == message["train"]
    assert "none of the 4 images of train has an object" in message["train"]
    assert "none of the 3 images of val has an object" in message["eval"]
    assert message["deploy"] == message["eval"]
    assert "empty" in refusal(check, ["job=check", *data], tmp_path / "check")
