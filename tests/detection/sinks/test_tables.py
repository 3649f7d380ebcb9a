import csv
import json

import numpy as np
import pytest

from ssd.data.datasets.csv_table import CSV
from ssd.detection.sinks import Header
from ssd.detection.sinks.tables import csv_file, json_file
from ssd.detection.sources import Frame
from ssd.detection.video import Clip

HEADER = Header("outputs/train/x", ["cat", "dög"], None, 0.5)
NOTHING = np.zeros((0, 6), np.float32)
DOG = np.array([[1, 0.9, 10, 20, 110.126, 220]], np.float32)


def frame(name, width, height, **more):
    return Frame(name, np.zeros((height, width, 3), np.uint8), **more)


def test_json(tmp_path):
    path = tmp_path / "detections.json"
    clip = Clip("street.mp4", "street", 25.0, 2, live=False)
    with json_file(path, HEADER) as add:
        add(frame("dog.jpg", 640, 480), DOG)
        add(frame("häuser.png", 30, 40), NOTHING)
        add(frame("street_000001.jpg", 64, 48, clip=clip, number=1, seconds=0.04), NOTHING)
        assert not path.exists()
    text = path.read_text(encoding="utf-8")
    content = {
        "model": "outputs/train/x",
        "classes": ["cat", "dög"],
        "threshold": 0.5,
        "images": [
            {
                "file": "dog.jpg",
                "width": 640,
                "height": 480,
                "detections": [{"class": 1, "name": "dög", "score": 0.9, "box": [10.0, 20.0, 110.13, 220.0]}],
            },
            {"file": "häuser.png", "width": 30, "height": 40, "detections": []},
            {
                "file": "street_000001.jpg",
                "video": "street.mp4",
                "frame": 1,
                "seconds": 0.04,
                "width": 64,
                "height": 48,
                "detections": [],
            },
        ],
    }
    assert json.loads(text) == content
    assert text == json.dumps(content, indent=1, ensure_ascii=False) + "\n", "streamed as if written at once"


def test_json_of_nothing(tmp_path):
    with json_file(tmp_path / "a.json", HEADER):
        pass
    assert json.loads((tmp_path / "a.json").read_text())["images"] == []


@pytest.mark.parametrize("make", [json_file, csv_file])
def test_nothing_is_left_of_a_file_that_is_not_finished(tmp_path, make):
    path = tmp_path / "detections"
    path.write_text("earlier")

    def fail():
        with make(path, HEADER) as add:
            add(frame("a.jpg", 4, 4), NOTHING)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["detections"]


def test_csv_loads_as_a_dataset(tmp_path, jpeg):
    (tmp_path / "dog.jpg").write_bytes(jpeg(200, 300))
    (tmp_path / "no, one.jpg").write_bytes(jpeg(60, 40))
    with csv_file(tmp_path / "detections.csv", HEADER) as add:
        add(frame("dog.jpg", 200, 300), DOG)
        add(frame("no, one.jpg", 60, 40), NOTHING)
    rows = list(csv.DictReader((tmp_path / "detections.csv").open()))
    assert rows[0]["score"] == "0.900000"
    from ssd.config.compose import compose

    node = compose(["dataset=csv"]).dataset
    dataset = CSV(
        root=str(tmp_path), classes=HEADER.classes, splits={"train": "detections.csv"}, folder=".",
        columns=node.columns, header=True, delimiter=",", units="pixels", out_of_range="error",
        holdout={"val": 0, "test": 0, "seed": 0},
    )  # fmt: skip
    dog, nothing = dataset.split("train")
    np.testing.assert_allclose(dog.boxes[:, :5], DOG[:, [0, 2, 3, 4, 5]], atol=1e-4)
    assert not len(nothing.boxes)


def test_names_that_a_spreadsheet_would_compute_come_back(tmp_path, jpeg):
    names, classes = ["-dog.jpg", "'=a.jpg", "@.jpg", "-5.jpg"], ["=cmd|' /C calc'!A0", "+dög"]
    with csv_file(tmp_path / "detections.csv", Header("x", classes, None, 0.5)) as add:
        for name in names:
            (tmp_path / name).write_bytes(jpeg(200, 300))
            add(frame(name, 200, 300), DOG)
    text = (tmp_path / "detections.csv").read_text(encoding="utf-8")
    assert text.splitlines()[1].startswith("'-dog.jpg,'+dög,10.000000,")
    from ssd.config.compose import compose

    node = compose(["dataset=csv"]).dataset
    dataset = CSV(
        root=str(tmp_path), classes=classes, splits={"train": "detections.csv"}, folder=".", columns=node.columns,
        header=True, delimiter=None, units="pixels", out_of_range="error", holdout={"val": 0, "test": 0, "seed": 0},
    )  # fmt: skip
    samples = dataset.split("train")
    assert [sample.path.name for sample in samples] == names
    assert all(sample.boxes[0, 0] == 1 for sample in samples)
