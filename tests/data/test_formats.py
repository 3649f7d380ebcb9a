"""What holds for every format: boxes come back as they were written, and damage ends in one line or in nothing."""

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssd.data.base import Dataset, Sample
from ssd.data.datasets import coco_json, csv_text, voc_xml, yolo_text
from ssd.data.datasets.build import make_dataset
from ssd.data.datasets.coco_json import CocoImage
from ssd.data.datasets.voc_xml import VOCObject
from ssd.data.inspection.gate import Gate
from ssd.data.recordio.cache import ensure_records
from ssd.data.recordio.writer import Packing, write_records
from ssd.utils.errors import UserError

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
    return {"_target_": "ssd.data.datasets.voc.VOC", "name": "x", "splits": splits, "compat": None}


def write_coco(folder: Path, samples: list[Sample]) -> dict:
    images = [CocoImage(7 + number, item.path.name, *SIZE) for number, item in enumerate(samples)]
    categories = dict(zip((1, 44, 90, *range(100, 120)), CLASSES, strict=False))
    text = coco_json.write(images, [item.ground_truth() for item in samples], categories)
    (folder / "train.json").write_text(text)
    return {
        "_target_": "ssd.data.datasets.coco.COCO",
        "splits": {"train": {"annotations": "train.json", "images": "images"}},
    }


def write_yolo(folder: Path, samples: list[Sample]) -> dict:
    for item in samples:
        (folder / "labels" / f"{item.id}.txt").write_text(yolo_text.write(item.boxes, SIZE))
    names = "".join(f"{'' if index == 0 else '  '}{index}: {name}\n" for index, name in enumerate(CLASSES))
    (folder / "list.txt").write_text("".join(f"images/{item.path.name}\n" for item in samples))
    (folder / "data.yaml").write_text(f"train: list.txt\nnames: {{{', '.join(names.split(chr(10))[:-1])}}}\n")
    return {"_target_": "ssd.data.datasets.yolo.YOLO", "names": None, "splits": {}, "labels": None}


def write_csv(folder: Path, samples: list[Sample]) -> dict:
    text = csv_text.write([item.path.name for item in samples], [item.boxes for item in samples], CLASSES)
    (folder / "train.csv").write_text(text)
    options = {"columns": None, "header": True, "delimiter": None, "units": "pixels"}
    return {
        "_target_": "ssd.data.datasets.csv_table.CSV",
        "splits": {"train": "train.csv"},
        "folder": "images",
        **options,
    }


def write_rec(folder: Path, samples: list[Sample]) -> dict:
    for file in folder.glob("train.*"):
        file.unlink()
    write_records(Packing(samples, seed=1), folder / "train")
    return {
        "_target_": "ssd.data.datasets.rec.Rec",
        "names": CLASSES,
        "splits": {"train": "train.rec", "val": "train.rec"},
    }


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
    if kind == "voc" and keys.get("holdout", {}).get("val"):  # a folder with lists has its own splits
        shutil.rmtree(folder / "ImageSets")
    if kind == "rec" and "holdout" in keys:
        keys["splits"] = {"train": "train.rec", "val": None}
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


MAIN = ["voc", "coco", "yolo", "csv", "rec"]
NONE_HELD = {"val": 0, "test": 0, "seed": 0}
BOX = [0, 10, 20, 300, 350, 0]


def admitted(dataset: Dataset, on_error: str) -> list[Sample]:
    """The samples to train on, as jobs get them."""
    return Gate(lambda: dataset, on_error).admit(["train"], None).samples["train"]


def put(folder: Path, name: str, data: bytes, rows: list | None = None) -> Sample:
    """Writes an image, and returns its sample."""
    (folder / "images" / f"{name}.jpg").write_bytes(data)
    return sample(name, [BOX] if rows is None else rows, folder)


@pytest.mark.parametrize("kind", MAIN)
def test_class_names_are_text_in_every_format(kind: str, folder: Path, monkeypatch) -> None:
    names = ["010", "1e3", "no", "null", "~", "12:30", "true", "0x1f", "Cat", "cat", "a/b", "7"]
    monkeypatch.setattr(sys.modules[__name__], "CLASSES", names)
    item = sample("a", [[place, 10, 20, 300, 350, 0] for place in range(len(names))], folder)
    for classes in (None, names[::-1]):
        keys = {"holdout": NONE_HELD, "classes": classes}
        dataset = opened(kind, folder, [item], **keys)
        assert sorted(dataset.classes) == sorted(names)
        assert classes is None or dataset.classes == tuple(classes)
        found = dataset.split("train")[0].boxes[:, 0].astype(int).tolist()
        assert [dataset.classes[label] for label in found] == names


@pytest.mark.parametrize("kind", MAIN)
def test_copies_are_held_out_together_in_every_format(kind: str, folder: Path, jpeg) -> None:
    samples = [put(folder, f"{number:02d}", jpeg(*SIZE, seed=number // 3)) for number in range(12)]
    keys = {"holdout": {"val": 0.25, "test": 0, "seed": 0}}
    dataset = opened(kind, folder, samples, **keys)
    sides = [{int(Path(item.id).stem) // 3 for item in dataset.split(split)} for split in ("train", "val")]
    assert [len(side) for side in sides] == [3, 1]
    assert not sides[0] & sides[1]


@pytest.mark.parametrize("kind", MAIN)
def test_groups_by_name_are_held_out_together_in_every_format(kind: str, folder: Path, jpeg) -> None:
    samples = [put(folder, f"v{number // 3}_{number}", jpeg(*SIZE, seed=number)) for number in range(12)]
    keys = {"holdout": {"val": 0.25, "test": 0, "seed": 0}, "group_by": r"v(\d+)_"}
    dataset = opened(kind, folder, samples, **keys)
    sides = [{Path(item.id).stem.partition("_")[0] for item in dataset.split(split)} for split in ("train", "val")]
    assert [len(side) for side in sides] == [3, 1]
    assert not sides[0] & sides[1]


@pytest.mark.parametrize("kind", MAIN)
def test_a_split_that_shows_no_object_is_refused_in_every_format(kind: str, folder: Path) -> None:
    samples = [sample(name, [], folder) for name in "abc"]
    dataset = opened(kind, folder, samples, holdout=NONE_HELD, classes=CLASSES)
    with pytest.raises(UserError, match="none of the 3 images of train has an object; are the annotations those of"):
        admitted(dataset, "refuse")


@pytest.mark.parametrize("kind", ["voc", "coco", "csv"])
def test_another_size_than_annotated_is_refused_in_every_format_that_has_one(kind: str, folder: Path, jpeg) -> None:
    samples = [sample(name, [BOX], folder) for name in "ab"]
    dataset = opened(kind, folder, samples, holdout=NONE_HELD)
    if kind == "csv":
        text = (folder / "train.csv").read_text().replace("\n", ",600,400\n").replace(",600,400", ",width,height", 1)
        (folder / "train.csv").write_text(text)
    (folder / "images/b.jpg").write_bytes(jpeg(300, 200))
    with pytest.raises(UserError, match="b.jpg: the image is 300x200 but its annotation says 600x400"):
        admitted(dataset, "refuse")
    assert [item.id for item in admitted(dataset, "skip")] == ["a"]


@pytest.mark.parametrize("kind", ["voc", "coco", "csv"])
def test_an_image_that_is_not_there_is_named_in_every_format(kind: str, folder: Path) -> None:
    samples = [sample(name, [BOX], folder) for name in "ab"]
    dataset = opened(kind, folder, samples, holdout=NONE_HELD)
    (folder / "images/b.jpg").unlink()
    with pytest.raises(UserError, match=r"b.jpg.*no such image") as error:
        admitted(dataset, "refuse")
    assert "\n" not in str(error.value)
    dataset = opened(kind, folder, samples, holdout=NONE_HELD)
    assert [item.id for item in admitted(dataset, "skip")] == ["a"]


@pytest.mark.parametrize("kind", MAIN)
def test_what_no_annotation_speaks_of_is_named_in_every_format(kind: str, folder: Path, caplog) -> None:
    caplog.set_level("INFO")
    dataset = opened(kind, folder, [sample(name, [BOX], folder) for name in "ab"], holdout=NONE_HELD)
    if kind == "rec":
        with (folder / "train.lst").open("a") as file:
            file.write("9\t2\t6\timages/c.jpg\n")
    if kind == "yolo":
        (folder / "list.txt").write_text("images/a.jpg\nimages/b.jpg\nimages/c.jpg\n")
    admitted(dataset, "refuse")
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("train:")]
    assert "c.jpg" in line


@pytest.mark.parametrize("kind", MAIN)
def test_names_that_differ_by_their_folder_are_two_images_in_every_format(kind: str, folder: Path, jpeg) -> None:
    for place in ("images/x", "labels/x", "Annotations/x"):
        (folder / place).mkdir()
    samples = [sample("a", [BOX], folder), put(folder, "x/a", jpeg(*SIZE, seed=9), [[1, 5, 5, 50, 60, 0]])]
    if kind == "csv":  # the writer has no folders
        dataset = opened(kind, folder, samples, holdout=NONE_HELD)
        text = "image,label,xmin,ymin,xmax,ymax\na.jpg,cat,10,20,300,350\nx/a.jpg,traffic light,5,5,50,60\n"
        (folder / "train.csv").write_text(text)
    else:
        dataset = opened(kind, folder, samples, holdout=NONE_HELD)
    if kind == "coco":
        text = (folder / "train.json").read_text()
        head, _, tail = text.rpartition('"file_name": "a.jpg"')
        (folder / "train.json").write_text(f'{head}"file_name": "x/a.jpg"{tail}')
    if kind == "yolo":
        (folder / "list.txt").write_text("images/a.jpg\nimages/x/a.jpg\n")
    if kind == "rec":
        lines = (folder / "train.lst").read_text().splitlines()
        rows = [line.replace(str(folder / "images") + "/", "") for line in lines]
        (folder / "train.lst").write_text("\n".join(rows) + "\n")
    found = admitted(dataset, "refuse")
    assert len({item.id for item in found}) == len({str(item.path) for item in found}) == 2
    named = {dataset.classes[int(item.boxes[0, 0])] for item in found}
    assert named == {"cat", "traffic light"}


def put_special(file: Path, kind: str) -> None:
    file.unlink()
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case _:
            file.mkdir()


@pytest.mark.parametrize("special", ["pipe", "device", "directory"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *[(kind, "images/b.jpg") for kind in MAIN if kind != "rec"],
        ("voc", "Annotations/b.xml"), ("voc", "ImageSets/Main/train.txt"), ("coco", "train.json"),
        ("yolo", "labels/b.txt"), ("yolo", "list.txt"), ("yolo", "data.yaml"), ("csv", "train.csv"),
        ("rec", "train.rec"), ("rec", "train.lst"), ("rec", "train.idx"),
    ],
)  # fmt: skip
def test_what_is_no_regular_file_is_refused_without_waiting(kind: str, name: str, special: str, folder: Path) -> None:
    samples = [sample(item, [BOX], folder) for item in "abc"]
    node = FORMATS[kind][0](folder, samples)
    put_special(folder / name, special)

    def read(on_error: str) -> str:
        try:
            keys = {"root": str(folder), "classes": None, "out_of_range": "error", "holdout": NONE_HELD, **node}
            dataset = make_dataset(keys)
            found = admitted(dataset, on_error)
            dataset.records("train", folder / "records")
        except UserError as error:
            return str(error)
        return f"{len(found)} images"

    line = read("refuse")
    assert "\n" not in line
    if name == "data.yaml":
        assert "says nothing of its classes" in line
    else:  # an .idx and a .lst are not needed
        assert Path(name).name in line or (kind, line) == ("rec", "3 images")
    if name.startswith(("images/", "Annotations")):
        assert read("skip") == "2 images"


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
