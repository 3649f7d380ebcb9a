"""What holds for every format: boxes come back as they were written, and damage ends in one line or in nothing."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssd.data import coco_json, csv_text, voc_xml, yolo_text
from ssd.data.coco_json import Picture
from ssd.data.dataset import Dataset, Sample, make_dataset
from ssd.data.packing import Packing, write_records
from ssd.data.records import ensure_records
from ssd.data.voc_xml import VOCObject
from ssd.errors import UserError

CLASSES = ["cat", "traffic light", "Übergröße"]
SIZE = (600, 400)
HOLDOUT = {"val": 0.5, "test": 0.0, "seed": 0}


def sample(name: str, rows: list, folder: Path) -> Sample:
    return Sample(name, folder / "images" / f"{name}.jpg", *SIZE, np.array(rows, np.float32).reshape(-1, 6))


def write_voc(folder: Path, samples: list[Sample]) -> dict:
    for item in samples:
        objects = [
            VOCObject(CLASSES[int(row[0])], (row[1] + 1, row[2] + 1, row[3], row[4]), int(row[5]))
            for row in item.boxes.tolist()
        ]
        (folder / "Annotations" / f"{item.id}.xml").write_bytes(voc_xml.write(item.path.name, *SIZE, objects))
    (folder / "ImageSets/Main/train.txt").write_text("".join(f"{item.id}\n" for item in samples))
    splits = {"train": ["train"]}
    return {"_target_": "ssd.data.voc.VOC", "name": "x", "splits": splits, "compat": None}


def write_coco(folder: Path, samples: list[Sample]) -> dict:
    pictures = [Picture(7 + number, item.path.name, *SIZE) for number, item in enumerate(samples)]
    categories = dict(zip((1, 44, 90), CLASSES, strict=True))
    text = coco_json.write(pictures, [item.ground_truth() for item in samples], categories)
    (folder / "train.json").write_text(text)
    return {"_target_": "ssd.data.coco.COCO", "splits": {"train": {"annotations": "train.json", "images": "images"}}}


def write_yolo(folder: Path, samples: list[Sample]) -> dict:
    for item in samples:
        (folder / "labels" / f"{item.id}.txt").write_text(yolo_text.write(item.boxes, SIZE))
    names = "".join(f"{'' if index == 0 else '  '}{index}: {name}\n" for index, name in enumerate(CLASSES))
    (folder / "list.txt").write_text("".join(f"images/{item.path.name}\n" for item in samples))
    (folder / "data.yaml").write_text(f"train: list.txt\nnames: {{{', '.join(names.split(chr(10))[:-1])}}}\n")
    return {"_target_": "ssd.data.yolo.YOLO", "names": None, "splits": {}, "labels": None}


def write_csv(folder: Path, samples: list[Sample]) -> dict:
    text = csv_text.write([item.path.name for item in samples], [item.boxes for item in samples], CLASSES)
    (folder / "train.csv").write_text(text)
    options = {"columns": None, "header": True, "delimiter": None, "units": "pixels"}
    return {"_target_": "ssd.data.csv_table.CSV", "splits": {"train": "train.csv"}, "folder": "images", **options}


def write_rec(folder: Path, samples: list[Sample]) -> dict:
    for file in folder.glob("train.*"):
        file.unlink()
    write_records(Packing(samples, seed=1), folder / "train")
    return {"_target_": "ssd.data.rec.Rec", "names": CLASSES, "splits": {"train": "train.rec", "val": "train.rec"}}


# The writer, the files that are damaged, and how often.
FORMATS: dict[str, tuple[Callable[[Path, list[Sample]], dict], str, int]] = {
    "voc": (write_voc, "Annotations/*.xml", 200),
    "voc set": (write_voc, "ImageSets/Main/train.txt", 80),
    "coco": (write_coco, "train.json", 300),
    "yolo": (write_yolo, "labels/*.txt", 180),
    "yolo list": (write_yolo, "list.txt", 80),
    "yolo data": (write_yolo, "data.yaml", 100),
    "csv": (write_csv, "train.csv", 300),
    "rec": (write_rec, "train.rec", 250),
    "rec lst": (write_rec, "train.lst", 80),
}


def opened(kind: str, folder: Path, samples: list[Sample], **keys) -> Dataset:
    node = FORMATS[kind][0](folder, samples)
    return make_dataset(
        {"root": str(folder), "classes": None, "out_of_range": "error", "holdout": HOLDOUT, **node, **keys}
    )


@pytest.fixture
def folder(tmp_path: Path, jpeg) -> Path:
    for name in ("Annotations", "ImageSets/Main", "images", "labels"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "JPEGImages").symlink_to(tmp_path / "images")
    for name in "abc":
        (tmp_path / "images" / f"{name}.jpg").write_bytes(jpeg(*SIZE, seed=ord(name)))
    return tmp_path


@st.composite
def boxes(draw) -> list:
    rows = []
    for _ in range(draw(st.integers(0, 4))):
        corners = []
        for side in SIZE:
            low = draw(st.floats(0, side - 2))
            corners.append((low, draw(st.floats(low + 1.001, side))))
        rows.append([draw(st.integers(0, 2)), corners[0][0], corners[1][0], corners[0][1], corners[1][1], 0])
    return rows


@pytest.mark.parametrize("kind", ["voc", "coco", "yolo", "csv", "rec"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(boxes(), min_size=1, max_size=3))
def test_boxes_survive_the_round_trip(kind: str, folder: Path, written: list) -> None:
    samples = [sample(name, rows, folder) for name, rows in zip("abc", written, strict=False)]
    keys = {"holdout": {"val": 0, "test": 0, "seed": 0}, "classes": CLASSES}
    read = {item.id: item for item in opened(kind, folder, samples, **keys).split("train")}
    assert sorted(read) == [item.id for item in samples]
    for item in samples:
        assert (read[item.id].width, read[item.id].height) == SIZE
        np.testing.assert_allclose(read[item.id].boxes, item.boxes, atol=1e-4)
        assert read[item.id].read() == item.path.read_bytes()


def mutated(data: bytes, source: random.Random, words: list[bytes]) -> bytes:
    """A few bytes changed, cut, repeated, or replaced by what parsers stumble over."""
    damaged = bytearray(data)
    for _ in range(source.randint(1, 4)):
        start = source.randrange(len(damaged) + 1)
        end = start + source.randint(1, 30)
        match source.randrange(5):
            case 0 if start < len(damaged):
                damaged[start] = source.randrange(256)
            case 1:
                del damaged[start:end]
            case 2:
                other = source.randrange(len(damaged) + 1)
                damaged[start:start] = bytes(damaged[other : other + 30])
            case 3:
                damaged[start:end] = source.choice(words)
            case 4 if source.random() < 0.2:
                del damaged[start:]
    return bytes(damaged)


WORDS = [
    *(b"-1", b"0", b"1e999", b"nan", b"-inf", b"99999999999999999999", b"1" * 5000, b"\0", b"\xff\xfe"),
    *(b'"', b"\n", b" ", b"[" * 2000, b"{", b"}", b"null", b'"\\ud800"', b"../../../etc/passwd", b"x" * 5000),
    *(b",,,,", b"\t", b"&a;", b"*a", b"- ", b": ", b"<object>", b"!!python/object/apply:os.system [echo]"),
    *(b"\x0a\x23\xd7\xce", b"\xff" * 8, b"\0" * 8),
]


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_ends_in_one_line_or_a_clean_skip(kind: str, folder: Path, tmp_path: Path) -> None:
    samples = [sample("a", [[0, 1, 2, 30, 40, 0]], folder), sample("b", [], folder),
               sample("c", [[2, 10.5, 20, 300, 399, 0], [1, 0, 0, 600, 400, 0]], folder)]  # fmt: skip
    FORMATS[kind][0](folder, samples)
    files = sorted(folder.glob(FORMATS[kind][1]))
    originals = {file: file.read_bytes() for file in files}
    source = random.Random(kind)
    outcomes: list[str] = []
    for _ in range(FORMATS[kind][2]):
        dataset_node = FORMATS[kind][0](folder, samples)
        file = source.choice(files)
        file.write_bytes(mutated(originals[file], source, WORDS))
        records = tmp_path / "records"
        try:
            dataset = make_dataset(
                {"root": str(folder), "classes": None, "out_of_range": "clip", "holdout": HOLDOUT, **dataset_node}
            )
            train = dataset.split("train")
            packed = dataset.records("train", records) or ensure_records(train, records, "train", seed=0)
            assert packed.count == len(train)
            outcomes.append("read")
        except UserError as error:
            outcomes.append("refused" if "\n" not in str(error) else str(error))
        unfinished = [path for path in records.glob("*") if path.name.startswith(".")] if records.exists() else []
        assert not unfinished
    assert set(outcomes) == {"read", "refused"}
