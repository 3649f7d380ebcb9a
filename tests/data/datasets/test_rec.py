"""Records as the original's tools make them, with MXNet's own writer."""

import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ssd.config.parts import loader_config
from ssd.data.coverage import UNNAMED
from ssd.data.datasets.rec import Rec
from ssd.data.inspection.problems import collecting
from ssd.data.loaders.build import make_train_loader
from ssd.data.recordio.cache import ensure_records, label_width
from ssd.data.recordio.format import encode
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

NAMES = ["cat", "dog"]
LABELS = {
    5: [[2, 5, 1, 0.25, 0.125, 0.5, 0.5], [2, 5, 0, 0, 0, 1, 1, 1, 0.5, 0.5, 0.75, 1], [2, 5, -1, -1, -1, -1, -1]],
    6: [
        [2, 6, 1, 0.25, 0.125, 0.5, 0.5, 1],
        [2, 6, 0, 0, 0, 1, 1, 0, 1, 0.5, 0.5, 0.75, 1, 0],
        [2, 6, -1, -1, -1, -1, -1, 0],
    ],
}


@pytest.fixture
def put(tmp_path, jpeg):
    """put("train", labels) -> images; .rec, .idx and .lst as im2rec writes them, keys from 10 on."""

    def write(name, labels):
        writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / f"{name}.idx"), str(tmp_path / f"{name}.rec"), "w")
        images, lines = [], []
        for number, label in enumerate(labels, start=10):
            images.append(jpeg(60, 40, seed=number))
            writer.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), images[-1]))
            lines.append("\t".join([str(number), *(f"{value:.4f}" for value in label), f"JPEGImages/{number}.jpg"]))
        writer.close()
        (tmp_path / f"{name}.lst").write_text("\n".join(lines) + "\n")
        return images

    return write


def dataset(folder, **options) -> Rec:
    defaults = {
        "root": str(folder),
        "names": NAMES,
        "classes": None,
        "splits": {"train": "train.rec", "val": "val.rec", "test": None},
        "out_of_range": "clip",
        "holdout": {"val": 0.34, "test": 0.0, "seed": 0},
    }
    return Rec(**{**defaults, **options})


def test_one_damaged_image_is_one_problem(put, tmp_path, jpeg):
    put("train", LABELS[6])
    put("val", LABELS[6])
    rec = tmp_path / "train.rec"
    data = rec.read_bytes()
    place = data.index(jpeg(60, 40, seed=11)[:200])
    rec.write_bytes(data[:place] + b"xx" + data[place + 2 :])
    (tmp_path / "train.idx").unlink()
    with collecting() as problems:
        samples = dataset(tmp_path).split("train")
    assert [problem.what.rpartition(": ")[2] for problem in problems] == ["the image file is no JPEG, PNG, BMP or WebP"]
    assert len(samples) == 2
    assert dataset(tmp_path).records("train", tmp_path / "r") is None


def test_a_image_that_mxnet_would_not_turn_is_packed_anew(put, tmp_path):
    header = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06" + bytes(6)
    png = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    chunk = len(header).to_bytes(4, "big") + b"eXIf" + header + zlib.crc32(b"eXIf" + header).to_bytes(4, "big")
    put("val", LABELS[6])
    for turned, data in ((False, png), (True, png[:33] + chunk + png[33:])):
        label = np.array(LABELS[6][0], np.float32)
        (tmp_path / "train.rec").write_bytes(encode(3, label, data))
        found = dataset(tmp_path)
        assert (found.records("train", tmp_path / "r") is None) == turned
        assert (found.split("train")[0].width == 40) == turned


@pytest.mark.parametrize("width", [5, 6])
@pytest.mark.parametrize("kept", [(".rec", ".idx", ".lst"), (".rec",)])
def test_the_originals_files_train_as_they_lie(put, tmp_path, make_cfg, width, kept):
    images = put("train", LABELS[width])
    for suffix in (".idx", ".lst"):
        if suffix not in kept:
            (tmp_path / f"train{suffix}").unlink()
    rec = dataset(tmp_path)
    samples = rec.split("train")
    assert rec.classes == ("cat", "dog")
    assert [sample.id for sample in samples] == (
        ["10", "11", "12"] if ".lst" in kept else ["00000010", "00000011", "00000012"]
    )
    assert [(sample.width, sample.height) for sample in samples] == [(60, 40)] * 3
    np.testing.assert_array_equal(samples[0].boxes, [[1, 15, 5, 30, 20, width - 5]])
    np.testing.assert_array_equal(samples[1].boxes, [[0, 0, 0, 60, 40, 0], [1, 30, 20, 45, 40, 0]])
    assert len(samples[2].boxes) == 0
    assert [sample.read() for sample in samples] == images

    records = rec.records("train", tmp_path / "records")
    assert records.rec == tmp_path / "train.rec"
    assert (records.count, records.label_width, records.object_width) == (3, 2 + 2 * width, width)
    assert rec.records("train", tmp_path / "records") == records
    reader = mx.recordio.MXIndexedRecordIO(str(records.idx), str(records.rec), "r")
    assert [mx.recordio.unpack(reader.read_idx(key))[0].id for key in (10, 11, 12)] == [10, 11, 12]
    for name, columns in (("fast", 6), ("record", width)):
        cfg = make_cfg(batch_size=3, loader=SimpleNamespace(name=name, workers=1, prefetch=1))
        with make_train_loader(records, loader_config(cfg), label_width(samples)) as loader:
            batch = loader.next()
            assert batch.label[0].shape == (3, 3, columns)
            labels = zip(loader.names(batch), batch.label[0].asnumpy(), strict=True)
            rows = {file.rpartition("/")[2]: label for file, label in labels}
        first = rows["10.jpg" if ".lst" in kept else "00000010"]
        np.testing.assert_allclose(first[0], [1, 0.25, 0.125, 0.5, 0.5, width - 5][:columns], atol=1e-6)
        assert (first[1:] == -1).all()


def test_splits_and_classes_that_need_packing(put, tmp_path):
    put("train", LABELS[6])
    put("val", LABELS[6][:1])
    assert dataset(tmp_path).available == ("train", "val")
    assert dataset(tmp_path).split("test")[0].id == "10"
    held_out = dataset(tmp_path, splits={"train": "train.rec", "val": None})
    assert [len(held_out.split(split)) for split in ("train", "val")] == [2, 1]
    assert held_out.records("train", tmp_path / "r") is None
    turned = dataset(tmp_path, classes=["dog", "cat"])
    assert turned.records("train", tmp_path / "r") is None
    samples = turned.split("train")
    assert samples[0].boxes[0, 0] == 0
    packed = ensure_records(samples, tmp_path / "r", "train", seed=0)
    reader = mx.recordio.MXIndexedRecordIO(str(packed.idx), str(packed.rec), "r")
    assert mx.recordio.unpack(reader.read_idx(0))[0].label[:3].tolist() == [2, 6, 0]
    (tmp_path / "train.rec").touch()  # changed: packed anew
    assert ensure_records(turned.split("train"), tmp_path / "r", "train", seed=0) != packed


@pytest.mark.parametrize(
    "labels",
    [
        [[4, 5, 60, 40, 1, 0.25, 0.125, 0.5, 0.5]],  # GluonCV's longer header
        [[2, 7, 1, 0.25, 0.125, 0.5, 0.5, 0, 9]],
        [[2, 5]],  # on which MXNet's iterator aborts
        [[2, 5, 1, 0.25, 0.125, 0.5, 0.5], [2, 6, 1, 0.25, 0.125, 0.5, 0.5, 0]],
        [[2, 5, 1, 0.25, 0.125, 0.25, 0.5]],  # a box without area
        [[2, 5, 1, 0.25, 0.125, 1.25, 0.5]],
    ],
)
def test_labels_that_training_would_misread_are_packed(put, tmp_path, labels):
    put("train", labels)
    rec = dataset(tmp_path)
    samples = rec.split("train")
    assert rec.records("train", tmp_path / "r") is None
    assert ensure_records(samples, tmp_path / "r", "train", seed=0).count == len(labels)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([3.0], "record 0 (JPEGImages/10.jpg): the label must start with its own width"),
        ([1, 5, 1, 0, 0, 1, 1], "the label must start with"),
        ([2, 4, 1, 0, 0, 1], "the label must start with"),
        ([2, float("nan"), 1, 0, 0, 1, 1], "the label must start with"),
        ([2, 5, 1, 0, 0, 1], "holds 4 numbers, not a multiple of 5"),
        ([2, 5, 1, 0, 0, 1, float("inf")], "not a multiple of 5 finite ones"),
        ([2, 5, 0.5, 0, 0, 1, 1], "a class is no whole number"),
        ([2, 5, 1, 0, 0, 60, 40], "corners must be shares 0..1"),
        ([2, 5, 2, 0, 0, 1, 1], "class 2 has no name, there are 2 (dataset.names)"),
    ],
)
def test_bad_labels_are_named(put, tmp_path, label, message):
    put("train", [label])
    with pytest.raises(UserError) as error:
        dataset(tmp_path).split("train")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_other_mistakes(put, tmp_path):
    with pytest.raises(UserError, match="dataset.names is not set"):
        dataset(tmp_path, names=None)
    with pytest.raises(UserError, match="train.rec: cannot read the records"):
        dataset(tmp_path).split("train")
    put("train", LABELS[5])
    (tmp_path / "train.lst").write_text("one\ttwo\n")
    with pytest.raises(UserError, match="train.lst: line 1 must be"):
        dataset(tmp_path).split("train")
    (tmp_path / "train.lst").unlink()
    with pytest.raises(UserError, match="dataset.splits.test is not set"):
        dataset(
            tmp_path, splits={"train": "train.rec", "val": "x"}, holdout={"val": 0, "test": 0.1, "seed": 0}
        )._members("test")
    (tmp_path / "train.rec").write_bytes(b"")
    with pytest.raises(UserError, match="train.rec: holds no records"):
        dataset(tmp_path).split("train")


def renamed(folder, *names: str) -> None:
    """Gives the images of train.lst other names."""
    lines = (folder / "train.lst").read_text().splitlines()
    text = "".join(f"{line.rpartition(chr(9))[0]}\t{name}\n" for line, name in zip(lines, names, strict=True))
    (folder / "train.lst").write_text(text)


def test_names_of_the_list_are_ids_also_with_folders(put, tmp_path):
    put("train", LABELS[6])
    renamed(tmp_path, "left/1.jpg", "right\\1.jpg", "right/2.jpg")
    assert [sample.id for sample in dataset(tmp_path).split("train")] == ["left/1", "right/1", "2"]
    renamed(tmp_path, "1.jpg", "1.png", "010.jpg")
    assert [sample.id for sample in dataset(tmp_path).split("train")] == ["1.jpg", "1.png", "010"]


def test_records_that_share_an_id_are_told_apart(put, tmp_path, caplog):
    put("train", LABELS[6])
    data = (tmp_path / "train.rec").read_bytes()
    (tmp_path / "train.rec").write_bytes(data * 2)
    (tmp_path / "train.idx").unlink()
    rec = dataset(tmp_path)
    names = [sample.id for sample in rec.split("train")]
    assert names == [f"{key:08d}_{place}" for place, key in enumerate([10, 11, 12] * 2)]
    assert "train.rec: 6 records share their ids, such as 10: they are named by their place" in caplog.text
    assert rec.records("train", tmp_path / "r") is None


def test_lists_and_indices_of_other_files_are_named(put, tmp_path, caplog):
    put("train", LABELS[6])
    assert dataset(tmp_path).coverage("train").skipped == {}
    assert not caplog.text
    lst = (tmp_path / "train.lst").read_text().splitlines()
    (tmp_path / "train.lst").write_text("\n".join([*lst[:2], lst[2].replace("12\t", "99\t", 1)]))
    idx = (tmp_path / "train.idx").read_text().replace("10\t0", "10\t4")
    (tmp_path / "train.idx").write_text(idx)
    coverage = dataset(tmp_path).coverage("train")
    assert coverage.orphans == ("train.lst: 99 (JPEGImages/12.jpg)",)
    assert coverage.skipped == {UNNAMED: ("train.rec: 12",)}
    assert "train.idx does not belong to train.rec: 1 of its 3 records are elsewhere" in caplog.text
    (tmp_path / "train.lst").write_text("\n".join([lst[0], lst[1].replace("11\t", "10\t", 1)]))
    with pytest.raises(UserError, match="train.lst: line 2: number 10 stands for JPEGImages/10.jpg and JPE"):
        dataset(tmp_path).split("train")


@pytest.mark.parametrize("name", ["010", "1e3", "yes", "null", "12:30", "~", "a/b"])
def test_classes_are_text(put, tmp_path, name):
    put("train", LABELS[6])
    rec = dataset(tmp_path, names=["x", name])
    assert rec.classes == ("x", name)
    assert dataset(tmp_path, names=[0, 1]).classes == ("0", "1")
    with pytest.raises(UserError, match="dataset.names: YAML reads one of the names as the truth value true; put"):
        dataset(tmp_path, names=["x", True])


def test_a_class_without_a_name_is_named_with_its_record(put, tmp_path):
    put("train", LABELS[6])
    with pytest.raises(UserError, match=r"train.rec: record 0 \(JPEGImages/10.jpg\): class 1 has no name, there are 1"):
        dataset(tmp_path, names="cat").split("train")
