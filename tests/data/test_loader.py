from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ssd.data.images import preprocess, read_image
from ssd.data.loader import _shuffle_piece, make_train_loader
from ssd.data.records import Records, ensure_records
from ssd.errors import UserError


@pytest.fixture
def packed(voc, tmp_path, jpeg):
    """Ten pictures; number n has n % 4 objects of class n."""
    names = [f"x{number}" for number in range(10)]
    for number, name in enumerate(names):
        objects = [(str(number), 5 + 10 * k, 5, 14 + 10 * k, 25 + k, k % 2) for k in range(number % 4)]
        voc.add(name, objects, jpeg(60, 40, seed=number))
    voc.sets(train=names)
    samples = voc.dataset(classes=[str(number) for number in range(10)]).split("train")
    return SimpleNamespace(samples=samples, records=ensure_records(samples, tmp_path / "records", "train", seed=0))


def loader_of(packed, cfg):
    return make_train_loader(packed.records, cfg, packed.records.label_width)


def epoch(loader) -> list[tuple[np.ndarray, np.ndarray, list[int]]]:
    loader.reset()
    return [(batch.data[0].asnumpy(), batch.label[0].asnumpy(), list(batch.index)) for batch in loader]


def test_batches(packed, make_cfg):
    loader = loader_of(packed, make_cfg(batch_size=4))
    assert loader.steps == 2
    assert [(item.name, item.shape) for item in loader.provide_data] == [("data", (4, 3, 32, 48))]
    assert [(item.name, item.shape) for item in loader.provide_label] == [("label", (4, 3, 6))]
    batches = epoch(loader)
    assert len(batches) == 2
    for data, labels, indices in batches:
        assert data.shape == (4, 3, 32, 48)
        assert data.dtype == labels.dtype == np.float32
        for label, index in zip(labels, indices, strict=True):
            boxes = packed.samples[index].boxes.copy()
            boxes[:, 1:5] /= (60, 40, 60, 40)
            np.testing.assert_allclose(label[: len(boxes)], boxes, atol=1e-6)
            assert (label[len(boxes) :] == -1).all()


def test_pixels_equal_preprocess_of_the_file(packed, make_cfg):
    """The decoder inside MXNet may round JPEG differently by a grey level or two; the resizing is the same."""
    cfg = make_cfg()
    spec = cfg.backbone.input
    for data, _, indices in epoch(loader_of(packed, cfg)):
        images = [read_image(packed.samples[index].path) for index in indices]
        difference = np.abs(data - preprocess(images, 32, 48, spec.mean, spec.std))
        assert difference.max() <= 2.5 / 56
        assert difference.mean() < 2e-3


def test_lossless_pixels_equal_preprocess_exactly(voc, tmp_path, make_cfg):
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    voc.add("a", [], cv2.imencode(".png", picture)[1].tobytes())
    voc.sets(train=["a"])
    samples = voc.dataset(classes=["cat"]).split("train")
    cfg = make_cfg(batch_size=1)
    loader = make_train_loader(ensure_records(samples, tmp_path / "r", "train", 0), cfg, 20)
    expected = preprocess([read_image(samples[0].path)], 32, 48, cfg.backbone.input.mean, cfg.backbone.input.std)
    np.testing.assert_allclose(loader.next().data[0].asnumpy(), expected, atol=1e-6)


def test_pictures_take_turns_so_that_all_are_seen_equally_often(packed, make_cfg):
    loader = loader_of(packed, make_cfg(batch_size=3))
    assert loader.steps == 3
    seen = [index for _ in range(10) for _, _, indices in epoch(loader) for index in indices]
    assert len(seen) == 90
    passes = np.array(seen).reshape(9, 10)
    assert (np.sort(passes, axis=1) == np.arange(10)).all()
    assert len({tuple(order) for order in passes}) == 9


def test_reset_in_the_middle_starts_a_full_epoch(packed, make_cfg):
    loader = loader_of(packed, make_cfg(batch_size=3))
    loader.next()
    loader.reset()
    assert len(list(loader)) == 3
    with pytest.raises(StopIteration):
        loader.next()


def test_the_seed_decides_the_batches(packed, make_cfg):
    def run(seed):
        return epoch(loader_of(packed, make_cfg("ssd", batch_size=5, seed=seed)))

    first, again, other = run(3), run(3), run(4)
    for (data, labels, indices), (data2, labels2, indices2) in zip(first, again, strict=True):
        assert indices == indices2
        np.testing.assert_array_equal(data, data2)
        np.testing.assert_array_equal(labels, labels2)
    assert [batch[2] for batch in first] != [batch[2] for batch in other]


def test_mirror(packed, make_cfg):
    cfg = make_cfg("none")
    cfg.augment.mirror = 1.0
    spec = cfg.backbone.input
    for data, labels, indices in epoch(loader_of(packed, cfg)):
        images = [read_image(packed.samples[index].path)[:, ::-1].copy() for index in indices]
        assert np.abs(data - preprocess(images, 32, 48, spec.mean, spec.std)).max() < 3 / 56
        for label, index in zip(labels, indices, strict=True):
            boxes = packed.samples[index].boxes / (1, 60, 40, 60, 40, 1)
            np.testing.assert_allclose(
                label[: len(boxes), 1:5], np.abs([1, 0, 1, 0] - boxes[:, [3, 2, 1, 4]]), atol=1e-6
            )


@pytest.mark.parametrize("augment", ["light", "ssd"])
def test_augmented_labels_stay_valid(packed, make_cfg, augment):
    loader = loader_of(packed, make_cfg(augment, batch_size=5))
    for _ in range(10):
        for data, labels, _ in epoch(loader):
            assert np.isfinite(data).all()
            real = labels[labels[..., 0] >= 0]
            assert (real[:, 3:5] > real[:, 1:3]).all()
            assert ((real[:, 1:5] >= 0) & (real[:, 1:5] <= 1)).all()


def test_a_wider_label(packed, make_cfg):
    loader = make_train_loader(packed.records, make_cfg(), 2 + 9 * 6)
    assert loader.next().label[0].shape == (2, 9, 6)
    with pytest.raises(UserError, match="label_width 14 must be 2"):
        make_train_loader(packed.records, make_cfg(), 14)
    with pytest.raises(UserError, match="label_width 22 must be 2"):
        make_train_loader(packed.records, make_cfg(), 22)


def test_batch_larger_than_the_data_set(packed, make_cfg):
    with pytest.raises(UserError, match="batch_size is 11 but there are only 10 pictures to train on: batch_size=10"):
        loader_of(packed, make_cfg(batch_size=11))


def test_damaged_records_are_an_error_not_a_hang(packed, make_cfg):
    data = bytearray(packed.records.rec.read_bytes())
    while (start := data.find(b"\xff\xd8\xff")) >= 0:
        data[start : start + 3] = b"bad"
    packed.records.rec.write_bytes(data)
    with pytest.raises(UserError, match="train.rec: MXNet cannot read it .* delete its folder") as error:
        list(loader_of(packed, make_cfg()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("megabytes", "count", "side", "piece"),
    [(2, 360, 128, 0), (4, 205, 300, 0), (2, 360, 512, 1), (1900, 16551, 300, 4), (1900, 16551, 512, 4)],
)
def test_shuffle_piece(tmp_path, megabytes, count, side, piece):
    """Small sets are shuffled freely, large ones by pieces, and neither decodes more than fits."""
    rec = tmp_path / "a.rec"
    with rec.open("wb") as file:
        file.truncate(megabytes * 10**6)
    records = Records(rec, rec, rec, count, 20)
    assert _shuffle_piece(records, (side, side)) == piece


def test_a_file_cut_into_pieces_is_still_seen_once_per_pass(voc, tmp_path, make_cfg, monkeypatch):
    names = [f"n{number}" for number in range(20)]
    for name in names:
        noise = np.random.default_rng(int(name[1:])).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        # What follows the end of a JPEG is ignored: it makes the file large enough to be cut.
        voc.add(name, [], cv2.imencode(".jpg", noise)[1].tobytes() + bytes(200_000) + b"\xff\xd9")
    voc.sets(train=names)
    records = ensure_records(voc.dataset(classes=["cat"]).split("train"), tmp_path / "r", "train", 0)
    monkeypatch.setattr("ssd.data.loader._shuffle_piece", lambda *_: 1)
    loader = make_train_loader(records, make_cfg(batch_size=5), records.label_width)
    seen = np.array([index for _ in range(4) for _, _, indices in epoch(loader) for index in indices]).reshape(4, 20)
    assert (np.sort(seen, axis=1) == np.arange(20)).all()
    assert len({tuple(order) for order in seen}) == 4
