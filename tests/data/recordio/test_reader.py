import contextlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from ssd.data.recordio.cache import Records, ensure_records
from ssd.data.recordio.format import MAGIC
from ssd.data.recordio.reader import RecordFile
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError


def write(folder, payloads: list[tuple[list[float], bytes]]) -> Records:
    """A .rec by MXNet's own writer."""
    rec, idx, lst = (folder / f"a{suffix}" for suffix in (".rec", ".idx", ".lst"))
    file = mx.recordio.MXIndexedRecordIO(str(idx), str(rec), "w")
    for number, (label, data) in enumerate(payloads):
        file.write_idx(number * 10, mx.recordio.pack(mx.recordio.IRHeader(0, np.array(label), number, 0), data))
    file.close()
    lst.write_text("".join(f"{number * 10}\tlabel\timages/{number}.jpg\n" for number in range(len(payloads))))
    return Records(rec, idx, lst, len(payloads), 20)


def test_reads_what_is_packed(voc, tmp_path):
    samples = voc.dataset().split("train")
    file = RecordFile(ensure_records(samples, tmp_path / "records", "train", 0))
    assert len(file) == 3
    assert sorted(file.indices) == [0, 1, 2]
    for number, index in enumerate(file.indices):
        image, sample = file.read(number), samples[index]
        assert image.data == sample.read()
        assert image.size == (60, 40)
        np.testing.assert_allclose(image.boxes[:, 1:5] * (60, 40, 60, 40), sample.boxes[:, 1:5], atol=1e-4)
        np.testing.assert_array_equal(image.boxes[:, [0, 5]], sample.boxes[:, [0, 5]])
        assert file.names[index] == sample.path.name


def test_records_that_hold_the_magic_number_are_joined(tmp_path, jpeg):
    """MXNet cuts a record wherever its bytes look like the start of one."""
    data = jpeg(60, 40)
    for pad in range(4):
        data += b"x" * pad + MAGIC * 2 + b"\xff\xd9"
    records = write(
        tmp_path, [([2, 6, 1, 0.1, 0.2, 0.3, 0.4, 0], data), ([2, 6, 2, 0.1, 0.2, 0.3, 0.4, 0], jpeg(60, 40))]
    )
    file = RecordFile(records)
    assert file.read(0).data == data
    assert file.read(1).boxes[0, 0] == 2


def test_labels_of_other_packers(tmp_path, jpeg):
    """Five columns, a longer header, seven columns, no objects, an object without area."""
    labels = [
        [2, 5, 1, 0.1, 0.2, 0.3, 0.4],
        [4, 5, 60, 40, 1, 0.1, 0.2, 0.3, 0.4],
        [2, 7, 1, 0.1, 0.2, 0.3, 0.4, 1, 99],
        [2, 6, -1, -1, -1, -1, -1, 0],
        [2, 5, 1, 0.1, 0.2, 0.1, 0.4, 2, 0, 0, 1, 1],
    ]
    file = RecordFile(write(tmp_path, [(label, jpeg(60, 40)) for label in labels]))
    found = [file.read(number).boxes for number in range(len(labels))]
    for number, difficult in ((0, 0), (1, 0), (2, 1)):
        np.testing.assert_allclose(found[number], [[1, 0.1, 0.2, 0.3, 0.4, difficult]], atol=1e-6)
    assert found[3].shape == (0, 6)
    np.testing.assert_allclose(found[4], [[2, 0, 0, 1, 1, 0]])


@pytest.mark.parametrize(
    ("label", "data", "message"),
    [
        ([2, 6, 0, 0, 0, 1, 1], b"", "holds 5 numbers, not a multiple of 6"),
        ([7], b"", "must start with its own width"),
        ([2, 6, 0, 0, 0, np.nan, 1, 0], b"", "not a multiple of 6 finite ones"),
        ([2, 6, 0, 0, 0, 1, 1, 0], b"hello", "the image file is no JPEG"),
        ([2, 6, 0, 0, 0, 1, 1, 0], cv2.imencode(".jpg", np.zeros((9, 9, 3)))[1].tobytes()[:-9], "truncated"),
    ],
)
def test_damaged_images_are_named(tmp_path, label, data, message):
    file = RecordFile(write(tmp_path, [(label, data)]))
    with pytest.raises(UserError, match=message) as error:
        file.read(0)
    assert "a.rec: image 0 (images/0.jpg)" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", range(200))
def test_any_damage_ends_in_a_image_or_an_error(tmp_path, jpeg, seed):
    records = write(tmp_path, [([2, 6, 0, 0, 0, 1, 1, 0], jpeg(60, 40, number)) for number in range(3)])
    rng = np.random.default_rng(seed)
    data = bytearray(records.rec.read_bytes())
    for position in rng.integers(0, 120, 3):
        data[position] = rng.integers(256)
    records.rec.write_bytes(data[: rng.integers(len(data))] if seed % 3 == 0 else data)
    file = RecordFile(records)
    for number in range(3):
        with contextlib.suppress(UserError):
            assert file.read(number).size >= (1, 1)


@pytest.mark.parametrize("text", ["", "one\ttwo\n", "1\n", "0\t-5\n", "0\t99999999\n"])
def test_a_wrong_index(tmp_path, jpeg, text):
    records = write(tmp_path, [([2, 6, 0, 0, 0, 1, 1, 0], jpeg(60, 40))])
    records.idx.write_text(text)
    with pytest.raises(UserError, match="a.idx: not an index|cut short"):
        RecordFile(records).read(0)


def test_missing_files(tmp_path, jpeg):
    records = write(tmp_path, [([2, 6, 0, 0, 0, 1, 1, 0], jpeg(60, 40))])
    records.lst.unlink()
    assert RecordFile(records).names == {}
    records.rec.unlink()
    with pytest.raises(UserError, match="a.rec: cannot be read"):
        RecordFile(records)
    records.idx.unlink()
    with pytest.raises(UserError, match="a.idx: cannot read an index of records"):
        RecordFile(records)


def test_threads_read_at_once(tmp_path, jpeg):
    images = [([2, 6, number, 0, 0, 1, 1, 0], jpeg(60, 40, number)) for number in range(30)]
    file = RecordFile(write(tmp_path, images))
    order = np.random.default_rng(0).integers(0, 30, 600).tolist()
    with ThreadPoolExecutor(8) as pool:
        for number, image in zip(order, pool.map(file.read, order), strict=True):
            assert image.data == images[number][1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"0\t{2**63}\n", "not an index of images"),
        (f"0\t{2**62 - 1}\n", "cut short"),
        ("0\t-4\n", "not an index of images"),
        ("", "not an index of images"),
        ("0\t1e3\n", "its lines must be"),
        (f"0\t{'9' * 5000}\n", "its lines must be"),
        ("\xff", "a.idx: not an index of records"),
    ],
)
def test_places_that_are_not_in_the_file(text, message, tmp_path, jpeg):
    records = write(tmp_path, [([2, 5, 1, 0.1, 0.2, 0.3, 0.4], jpeg(60, 40))])
    records.idx.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        RecordFile(records).read(0)


def test_lists_that_are_none(tmp_path, jpeg):
    records = write(tmp_path, [([2, 5, 1, 0.1, 0.2, 0.3, 0.4], jpeg(60, 40))])
    for text in (b"\xff\t1\tx", b"nan\t1\tx", b"inf\t1\tx", b"one\t1\tx"):
        records.lst.write_bytes(text)
        with pytest.raises(UserError, match=r"a.lst: (not a .lst file|line 1 must be)"):
            _ = RecordFile(records).names
