import errno
import os
import shutil
import threading
import zlib

import cv2
import numpy as np
import pytest

from ssd.data.base import Sample, empty_boxes
from ssd.data.images import read_image
from ssd.data.recordio.cache import ensure_records, label_width
from ssd.data.recordio.writer import Packing, list_line, write_records
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError


def records_of(path):
    reader = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "r")
    return {key: mx.recordio.unpack(reader.read_idx(key)) for key in reader.keys}


def test_list_line_is_that_of_the_original_with_six_decimals():
    label = np.array([2, 6, 11, 0.5, 1 / 3, 0.75, 1, 0, 3, 0, 0.25, 0.5, 0.5, 1])
    assert list_line(7, label, "VOC2007/JPEGImages/000007.jpg") == (
        "7\t2\t6\t11.000000\t0.500000\t0.333333\t0.750000\t1.000000\t0.000000"
        "\t3.000000\t0.000000\t0.250000\t0.500000\t0.500000\t1.000000\tVOC2007/JPEGImages/000007.jpg\n"
    )


def test_files(voc, tmp_path):
    samples = voc.dataset().split("train")
    records = ensure_records(samples, tmp_path / "records", "train", seed=1)
    assert (records.count, records.label_width) == (3, 2 + 3 * 6)
    assert [path.name for path in (records.rec, records.idx, records.lst)] == ["train.rec", "train.idx", "train.lst"]
    lines = {int(line.split("\t")[0]): line.rstrip("\n") for line in records.lst.read_text().splitlines()}
    assert lines[0] == (
        "0\t2\t6\t1.000000\t0.166667\t0.125000\t0.500000\t0.500000\t0.000000"
        "\t0.000000\t0.000000\t0.000000\t1.000000\t1.000000\t1.000000\ta.jpg"
    )
    assert lines[2] == "2\t2\t6\t-1.000000\t-1.000000\t-1.000000\t-1.000000\t-1.000000\t0.000000\tc.jpg"
    packed = records_of(records.rec)
    assert sorted(packed) == [0, 1, 2]
    for index, (header, data) in packed.items():
        assert header.id == index
        assert data == samples[index].path.read_bytes()
        boxes = header.label[2:].reshape(-1, 6).copy()
        assert header.label[:2].tolist() == [2, 6]
        if index == 2:
            assert boxes.tolist() == [[-1, -1, -1, -1, -1, 0]]
        else:
            boxes[:, 1:5] *= (60, 40, 60, 40)
            np.testing.assert_allclose(boxes, samples[index].boxes, atol=1e-5)
    offsets = [int(line.split("\t")[1]) for line in records.idx.read_text().splitlines()]
    assert offsets[0] == 0
    assert offsets == sorted(offsets)


def test_plain_iterator_of_mxnet_reads_them(voc, tmp_path):
    records = ensure_records(voc.dataset().split("train"), tmp_path, "train", seed=0)
    iterator = mx.io.ImageDetRecordIter(
        path_imgrec=str(records.rec), data_shape=(3, 20, 30), batch_size=3, label_pad_width=records.label_width,
        mean_r=0, verbose=False,
    )  # fmt: skip
    rows = iterator.next().label[0].asnumpy()
    order = [int(line.split("\t")[0]) for line in records.lst.read_text().splitlines()]
    assert rows.shape == (3, 4 + 20)
    first = rows[order.index(0)]
    np.testing.assert_allclose(first[:12], [3, 20, 30, 14, 2, 6, 1, 1 / 6, 0.125, 0.5, 0.5, 0], rtol=1e-6)
    assert (rows[order.index(2), 6:] == -1).all()


def test_the_seed_decides_the_order(voc, tmp_path):
    for number in range(20):
        voc.add(f"x{number:02d}", [("dog", 1, 1, 9, 9)])
    voc.sets(train=[f"x{number:02d}" for number in range(20)])
    samples = voc.dataset().split("train")
    orders = {}
    for seed in (0, 0, 1):
        records = ensure_records(samples, tmp_path / f"{len(orders)}{seed}", "train", seed)
        orders.setdefault(seed, []).append(records.lst.read_text())
    assert orders[0][0] == orders[0][1] != orders[1][0]
    assert sorted(orders[0][0].splitlines()) == sorted(orders[1][0].splitlines()) != orders[0][0].splitlines()


def test_label_width_has_room_for_the_fullest_image():
    def sample(objects):
        return Sample("a", None, 10, 10, np.zeros((objects, 6), np.float32))

    assert label_width([sample(0), sample(2)]) == 20
    assert label_width([sample(0), sample(7)]) == 2 + 42


def test_paths_are_relative_to_the_folder_all_images_share(voc, tmp_path, jpeg):
    other = tmp_path / "voc/other"
    other.mkdir()
    (other / "z.jpg").write_bytes(jpeg(60, 40))
    samples = [*voc.dataset().split("val"), Sample("z", other / "z.jpg", 60, 40, empty_boxes())]
    write_records(Packing(samples, seed=0), tmp_path / "both")
    paths = {line.split("\t")[-1] for line in (tmp_path / "both.lst").read_text().splitlines()}
    assert paths == {"JPEGImages/c.jpg", "other/z.jpg"}


def test_packed_once(voc, tmp_path, monkeypatch):
    samples = voc.dataset().split("train")
    first = ensure_records(samples, tmp_path, "train", seed=0)
    monkeypatch.setattr("ssd.data.recordio.cache.write_records", lambda *_: pytest.fail("packed again"))
    assert ensure_records(voc.dataset().split("train"), tmp_path, "train", seed=0) == first


def test_packed_anew_when_something_changes(voc, tmp_path, jpeg):
    def pack(**options):
        return ensure_records(voc.dataset(**options).split("train"), tmp_path / "records", "train", seed=0)

    seen = [pack()]
    image = voc.root / "JPEGImages/a.jpg"
    stamp = image.stat().st_mtime_ns
    os.utime(image, ns=(stamp, stamp + 10**9))
    seen.append(pack())
    image.write_bytes(jpeg(60, 40, seed=99))
    seen.append(pack())
    voc.xml("b").write_bytes(voc.xml("b").read_bytes().replace(b">5.5<", b">6.5<"))
    seen.append(pack())
    seen.append(pack(compat="mxnet_ssd"))
    voc.sets(train=["a", "b"])
    seen.append(pack())
    assert len({records.rec for records in seen}) == len(seen)
    assert all(records.rec.is_file() for records in seen)
    assert records_of(seen[2].rec)[0][1] == image.read_bytes() != records_of(seen[1].rec)[0][1]
    assert records_of(seen[-1].rec).keys() == {0, 1}


def test_a_failure_half_way_leaves_nothing(voc, tmp_path, monkeypatch):
    samples = voc.dataset().split("train")
    written = []

    def write_two(index, label, data):
        if len(written) == 2:
            raise OSError("disk full")
        written.append(index)
        return [b""]

    with monkeypatch.context() as patch:
        patch.setattr("ssd.data.recordio.writer.encode_pieces", write_two)
        with pytest.raises(UserError, match="records: disk full while"):
            ensure_records(samples, tmp_path / "records", "train", seed=0)
    assert list((tmp_path / "records").iterdir()) == []
    assert len(records_of(ensure_records(samples, tmp_path / "records", "train", seed=0).rec)) == 3


def test_two_at_once_leave_one_whole_packing(voc, tmp_path):
    for number in range(40):
        voc.add(f"x{number:02d}", [("dog", 1, 1, 9, 9)])
    voc.sets(train=[f"x{number:02d}" for number in range(40)])
    samples = voc.dataset().split("train")
    results = []
    workers = [
        threading.Thread(target=lambda: results.append(ensure_records(samples, tmp_path / "records", "train", 0)))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    assert len(set(results)) == 1
    assert len(list((tmp_path / "records").iterdir())) == 1
    assert len(records_of(results[0].rec)) == 40


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda _: b"", "b.jpg: the image file is empty"),
        (lambda _: b"<html>", "b.jpg: the image file is no JPEG, PNG, BMP or WebP"),
        (lambda jpeg: jpeg(60, 40)[:-200], "b.jpg: the image file is truncated"),
        (lambda jpeg: jpeg(50, 40), "b.jpg: the image is 50x40 but its annotation says 60x40$"),
        (
            lambda jpeg: jpeg(40, 60),
            r"b.jpg: the image is 40x60 but its annotation says 60x40; .* its EXIF",
        ),
    ],
    ids=["empty", "html", "truncated", "other size", "turned"],
)
def test_bad_images_are_named_before_anything_is_kept(voc, tmp_path, jpeg, data, message):
    (voc.root / "JPEGImages/b.jpg").write_bytes(data(jpeg))
    with pytest.raises(UserError, match=message) as error:
        ensure_records(voc.dataset().split("train"), tmp_path / "records", "train", seed=0)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "records").iterdir()) == []


def test_missing_image_and_empty_split(voc, tmp_path):
    samples = voc.dataset().split("train")
    samples[1].path.unlink()
    with pytest.raises(UserError, match="b.jpg: cannot read the image: No such file"):
        ensure_records(samples, tmp_path, "train", seed=0)
    with pytest.raises(UserError, match="the train split has no images to pack"):
        ensure_records([], tmp_path, "train", seed=0)


def test_what_mxnet_cannot_decode_goes_in_as_png(voc, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    lossless = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    voc.add("a", [], lossless)
    records = ensure_records(voc.dataset().split("train"), tmp_path, "train", seed=0)
    data = records_of(records.rec)[0][1]
    assert data.startswith(b"\x89PNG")
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), image)


def tagged(kind: str, image: np.ndarray, orientation: int) -> bytes:
    """A JPEG with fill bytes before its EXIF header, or a PNG, of an orientation."""
    header = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + bytes(6)
    data = cv2.imencode(f".{kind}", image)[1].tobytes()
    if kind == "jpg":
        part = b"Exif\0\0" + header
        return data[:2] + b"\xff\xff\xff\xe1" + (len(part) + 2).to_bytes(2, "big") + part + data[2:]
    body = b"eXIf" + header
    return data[:33] + len(header).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big") + data[33:]


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_mxnet_reads_packed_images_as_upright_as_we_do(voc, tmp_path, kind):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30] = 255  # one corner
    samples = []
    for orientation in range(1, 9):
        voc.add(f"o{orientation}", [], tagged(kind, image, orientation))
        size = (60, 40) if orientation < 5 else (40, 60)
        path = voc.root / "JPEGImages" / f"o{orientation}.jpg"
        samples.append(Sample(f"o{orientation}", path, *size, np.array([[0, 1, 1, 9, 9, 0]], np.float32)))
    records = ensure_records(samples, tmp_path, "train", seed=0)
    images = mx.io.ImageDetRecordIter(
        path_imgrec=str(records.rec), data_shape=(3, 16, 16), batch_size=8, label_width=-1, resize_mode="force",
        label_pad_width=records.label_width, label_pad_value=-1.0, verbose=False,
    ).next()  # fmt: skip
    seen = images.data[0].asnumpy()[np.argsort(images.index)].mean(axis=1) > 127
    for sample, corner in zip(samples, seen, strict=True):
        ours = cv2.resize(read_image(sample.path), (16, 16)).mean(axis=2) > 127
        assert (corner == ours).mean() > 0.95, sample.id
    assert len({corner.tobytes() for corner in seen}) == 4


def test_a_full_disk_is_one_line_and_nothing_is_left(voc, tmp_path, monkeypatch):
    samples = voc.dataset().split("train")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ssd.data.recordio.writer.write_pieces", full)
        with pytest.raises(UserError, match=r"^.*r: No space left on device while the records of train.*job=clean"):
            ensure_records(samples, tmp_path / "r", "train", seed=0)
    assert list((tmp_path / "r").iterdir()) == []


def test_a_disk_too_small_is_told_before_packing(voc, tmp_path, monkeypatch):
    samples = voc.dataset().split("train")
    needed = sum(sample.path.stat().st_size for sample in samples)
    usage = shutil.disk_usage(tmp_path)
    for free, enough in ((needed, False), (2 * needed, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        if enough:
            assert ensure_records(samples, tmp_path / "r", "train", seed=0).rec.is_file()
        else:
            with pytest.raises(UserError, match=r"r: the records of train need at least 0 MB, the disk has 0 MB free"):
                ensure_records(samples, tmp_path / "r", "train", seed=0)
            assert not list((tmp_path / "r").iterdir())
