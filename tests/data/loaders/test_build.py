"""What every training loader does, and what only one of them can."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ssd.config.parts import input_spec, loader_config
from ssd.data.base import Sample
from ssd.data.images import read_image
from ssd.data.loaders.build import make_train_loader
from ssd.data.recordio.cache import ensure_records
from ssd.data.transforms.preprocess import preprocess
from ssd.utils.errors import UserError


@pytest.fixture
def packed(voc, tmp_path, jpeg):
    """Ten images; number n has n % 4 objects of class n."""
    names = [f"x{number}" for number in range(10)]
    for number, name in enumerate(names):
        objects = [(str(number), 5 + 10 * k, 5, 14 + 10 * k, 25 + k, k % 2) for k in range(number % 4)]
        voc.add(name, objects, jpeg(60, 40, seed=number))
    voc.sets(train=names)
    samples = voc.dataset(classes=[str(number) for number in range(10)]).split("train")
    return SimpleNamespace(samples=samples, records=ensure_records(samples, tmp_path / "records", "train", seed=0))


@pytest.fixture(params=["fast", "record"])
def cfg_of(request, make_cfg):
    """make_cfg for one loader, then for the other."""
    loader = SimpleNamespace(name=request.param, workers=2, prefetch=2)
    return lambda augment="none", **values: make_cfg(augment, loader=loader, **values)


def loader_of(packed, cfg):
    return make_train_loader(packed.records, loader_config(cfg), packed.records.label_width)


def floats(batch, cfg) -> np.ndarray:
    """The data as the network's first layer gets it."""
    data = batch.data[0].asnumpy()
    if data.dtype == np.float32:
        return data
    assert data.dtype == np.uint8
    mean, std = (np.float32(values).reshape(3, 1, 1) for values in (cfg.backbone.input.mean, cfg.backbone.input.std))
    return (data - mean) / std


def epoch(loader, cfg) -> list[tuple[np.ndarray, np.ndarray, list[int]]]:
    loader.reset()
    return [(floats(batch, cfg), batch.label[0].asnumpy(), list(batch.index)) for batch in loader]


def test_batches(packed, cfg_of):
    cfg = cfg_of(batch_size=4)
    loader = loader_of(packed, cfg)
    assert loader.steps == 2
    assert [(item.name, item.shape) for item in loader.provide_data] == [("data", (4, 3, 32, 48))]
    assert [(item.name, item.shape) for item in loader.provide_label] == [("label", (4, 3, 6))]
    batches = epoch(loader, cfg)
    assert len(batches) == 2
    for data, labels, indices in batches:
        assert data.shape == (4, 3, 32, 48)
        assert data.dtype == labels.dtype == np.float32
        for label, index in zip(labels, indices, strict=True):
            boxes = packed.samples[index].boxes.copy()
            boxes[:, 1:5] /= (60, 40, 60, 40)
            np.testing.assert_allclose(label[: len(boxes)], boxes, atol=1e-6)
            assert (label[len(boxes) :] == -1).all()


def test_pixels_equal_preprocess_of_the_file(packed, cfg_of):
    """The decoder inside MXNet may round JPEG differently by a gray level or two; the resizing is the same."""
    cfg = cfg_of()
    spec = input_spec(cfg)
    for data, _, indices in epoch(loader_of(packed, cfg), cfg):
        images = [read_image(packed.samples[index].path) for index in indices]
        difference = np.abs(data - preprocess(images, spec))
        assert difference.max() <= 2.5 / 56
        assert difference.mean() < 2e-3


def test_lossless_pixels_equal_preprocess_exactly(voc, tmp_path, cfg_of):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    voc.add("a", [], cv2.imencode(".png", image)[1].tobytes())
    voc.sets(train=["a"])
    samples = voc.dataset(classes=["cat"]).split("train")
    cfg = cfg_of(batch_size=1)
    loader = make_train_loader(ensure_records(samples, tmp_path / "r", "train", 0), loader_config(cfg), 20)
    expected = preprocess([read_image(samples[0].path)], input_spec(cfg))
    np.testing.assert_allclose(floats(loader.next(), cfg), expected, atol=1e-6)


SIDES = {"double": (96, 64), "less than double": (95, 64), "four times and a rest": (195, 131), "eight": (385, 257)}


@pytest.mark.parametrize("size", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("mode", ["force", "fit"])
@pytest.mark.parametrize("compat", [None, "mxnet_ssd"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_large_images_are_the_same_in_training_and_inference(suffix, compat, mode, size, tmp_path, cfg_of):
    """To the last bit where the file is lossless. JPEGs differ by half a level or so, as their decoders do: MXNet's is
    another version, and ours decodes them at a fraction of their size, which is nearly the average."""
    cfg = cfg_of(batch_size=1, compat=compat, resize_mode=mode)
    cfg.loader.workers = 0 if cfg.loader.name == "fast" else 1
    if (cfg.loader.name, mode) == ("record", "fit"):
        pytest.skip("MXNet's iterator has no fit")
    coarse = np.random.default_rng(0).integers(0, 256, (size[1] // 16, size[0] // 16, 3), dtype=np.uint8)
    image = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    if suffix == ".png":
        image[::2, 1::2] //= 2  # what interpolation between four pixels makes something else of than averages
    file = tmp_path / f"a{suffix}"
    file.write_bytes(cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes())
    sample = Sample("a", file, *size, np.array([[0, 0, 0, 9, 9, 0]], np.float32))
    with make_train_loader(ensure_records([sample], tmp_path / "r", "train", 0), loader_config(cfg), 20) as loader:
        data = floats(loader.next(), cfg)
    difference = np.abs(data - preprocess([read_image(file)], input_spec(cfg))) * 57
    if suffix == ".png":
        assert difference.max() < 0.01
    assert difference.mean() < 1.5


def test_images_take_turns_so_that_all_are_seen_equally_often(packed, cfg_of):
    cfg = cfg_of(batch_size=3)
    loader = loader_of(packed, cfg)
    assert loader.steps == 3
    seen = [index for _ in range(10) for _, _, indices in epoch(loader, cfg) for index in indices]
    assert len(seen) == 90
    passes = np.array(seen).reshape(9, 10)
    assert (np.sort(passes, axis=1) == np.arange(10)).all()
    assert len({tuple(order) for order in passes}) == 9


def test_reset_in_the_middle_starts_a_full_epoch(packed, cfg_of):
    loader = loader_of(packed, cfg_of(batch_size=3))
    loader.next()
    loader.reset()
    assert len(list(loader)) == 3
    with pytest.raises(StopIteration):
        loader.next()


def test_the_seed_decides_the_batches(packed, cfg_of):
    def run(seed):
        cfg = cfg_of("ssd", batch_size=5, seed=seed)
        return epoch(loader_of(packed, cfg), cfg)

    first, again, other = run(3), run(3), run(4)
    for (data, labels, indices), (data2, labels2, indices2) in zip(first, again, strict=True):
        assert indices == indices2
        np.testing.assert_array_equal(data, data2)
        np.testing.assert_array_equal(labels, labels2)
    assert [batch[2] for batch in first] != [batch[2] for batch in other]


def test_mirror(packed, cfg_of):
    cfg = cfg_of("none")
    cfg.augment.mirror = 1.0
    spec = input_spec(cfg)
    for data, labels, indices in epoch(loader_of(packed, cfg), cfg):
        images = [read_image(packed.samples[index].path)[:, ::-1].copy() for index in indices]
        assert np.abs(data - preprocess(images, spec)).max() < 3 / 56
        for label, index in zip(labels, indices, strict=True):
            boxes = packed.samples[index].boxes / (1, 60, 40, 60, 40, 1)
            np.testing.assert_allclose(
                label[: len(boxes), 1:5], np.abs([1, 0, 1, 0] - boxes[:, [3, 2, 1, 4]]), atol=1e-6
            )


@pytest.mark.parametrize("augment", ["light", "ssd"])
def test_augmented_labels_stay_valid(packed, cfg_of, augment):
    cfg = cfg_of(augment, batch_size=5)
    loader = loader_of(packed, cfg)
    for _ in range(10):
        for data, labels, _ in epoch(loader, cfg):
            assert np.isfinite(data).all()
            real = labels[labels[..., 0] >= 0]
            assert (real[:, 3:5] > real[:, 1:3]).all()
            assert ((real[:, 1:5] >= 0) & (real[:, 1:5] <= 1)).all()


def test_a_wider_label(packed, cfg_of):
    loader = make_train_loader(packed.records, loader_config(cfg_of()), 2 + 9 * 6)
    assert loader.next().label[0].shape == (2, 9, 6)
    with pytest.raises(UserError, match="label_width 14 must be 2"):
        make_train_loader(packed.records, loader_config(cfg_of()), 14)
    with pytest.raises(UserError, match="label_width 22 must be 2"):
        make_train_loader(packed.records, loader_config(cfg_of()), 22)


def test_batch_larger_than_the_dataset(packed, cfg_of):
    with pytest.raises(UserError, match="batch_size=11: there are only 10 images to train on; take batch_size=10"):
        loader_of(packed, cfg_of(batch_size=11))


def test_names(packed, cfg_of):
    loader = loader_of(packed, cfg_of())
    batch = loader.next()
    assert loader.names(batch) == [f"x{index}.jpg" for index in batch.index]


def test_an_unknown_loader(packed, make_cfg):
    with pytest.raises(UserError, match="loader.name=quick: expected fast or record"):
        loader_of(packed, make_cfg(loader=SimpleNamespace(name="quick")))


@pytest.mark.parametrize(
    ("augment", "values", "message"),
    [
        (
            "ssd_plus",
            {},
            "augment.mosaic.probability=0.5 .augment=ssd_plus.: MXNet's iterator has none; use loader=fast",
        ),
        ("none", {"resize_mode": "fit"}, "resize_mode=fit: .* use loader=fast"),
    ],
)
def test_what_only_ours_can(packed, make_cfg, augment, values, message):
    loader = SimpleNamespace(name="record", workers=2, prefetch=2)
    with pytest.raises(UserError, match=message) as error:
        loader_of(packed, make_cfg(augment, loader=loader, **values))
    assert "\n" not in str(error.value)
    assert loader_of(packed, make_cfg(augment, **values)).next().data[0].shape == (2, 3, 32, 48)
