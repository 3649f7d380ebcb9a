from functools import partial

import cv2
import numpy as np
import pytest

from ssd.config.augment import read_augment
from ssd.config.parts import InputSpec
from ssd.data.base import EncodedImage, Size
from ssd.data.transforms.augmenter import Augmenter
from ssd.utils.errors import UserError

RED, FILL, BORDER = 250, 127, 60


def spec(mode: str = "force", height: int = 80, width: int = 100) -> InputSpec:
    return InputSpec(height, width, (float(BORDER),) * 3, (1.0,) * 3, mode, antialias=True)


def source_image(width: int, height: int, corners: list[float], label: int = 0) -> EncodedImage:
    """A box in its own color on black, and the box."""
    image = np.zeros((height, width, 3), np.uint8)
    xmin, ymin, xmax, ymax = np.rint(np.array(corners) * [width, height, width, height]).astype(int)
    image[ymin:ymax, xmin:xmax] = (RED - 40 * label, 0, 0)
    data = cv2.imencode(".png", image)[1].tobytes()
    exact = [xmin / width, ymin / height, xmax / width, ymax / height]
    return EncodedImage(data, Size(width, height), np.array([[label, *exact, 0]]), "p.png")


def geometric(make_cfg, **changes):
    """ssd without colors, smooth."""
    augment = read_augment(make_cfg("ssd").augment)
    for name in ("hue", "saturation", "illumination", "contrast"):
        getattr(augment, name).probability = 0
    augment.interpolation = "bilinear"
    for key, value in changes.items():
        setattr(augment, key, value)
    return augment


def bright_box(image: np.ndarray, level: int) -> np.ndarray:
    """Where blue is at least half of `level` and green is not: (xmin, ymin, xmax, ymax) in pixels."""
    rows, columns = np.nonzero((image[..., 0] >= level / 2) & (image[..., 1] < FILL // 4))
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize("mode", ["force", "fit"])
@pytest.mark.parametrize("size", [(120, 90), (90, 120), (500, 375)])
def test_boxes_lie_on_their_pixels(make_cfg, mode, size):
    painter = Augmenter(geometric(make_cfg), spec(mode))
    rng = np.random.default_rng(0)
    source = source_image(*size, [0.3, 0.2, 0.7, 0.8])
    scale = np.array((100, 80) * 2)
    for _ in range(150):
        paint, rows = painter.augment_batch([source], rng)[0]
        image = paint()
        assert image.shape == (80, 100, 3)
        assert rows.dtype == np.float32
        assert ((rows[:, 1:5] >= 0) & (rows[:, 1:5] <= 1)).all()
        assert len(rows) == 1  # a crop keeps the center of an object, and there is only this one
        np.testing.assert_allclose(rows[0, 1:5] * scale, bright_box(image, RED), atol=1.01)


def test_borders(make_cfg):
    """An expanded tall image: black in gray, fitted into the input beside the mean."""
    augment = geometric(make_cfg)
    augment.crop.probability, augment.pad.probability = 0, 1
    paint, rows = Augmenter(augment, spec("fit")).augment_batch(
        [source_image(60, 120, [0, 0, 1, 1])], np.random.default_rng(2)
    )[0]
    image = paint()
    assert (image[:, 41:] == BORDER).all()
    (left, top), (right, bottom) = np.rint(np.reshape(rows[0, 1:5], (2, 2)) * (100, 80)).astype(int)
    outside = np.ones((80, 40), bool)
    outside[top:bottom, left:right] = False
    assert outside.any()
    assert (image[:, :40][outside] == FILL).all()
    assert (image[top:bottom, left:right] == (RED, 0, 0)).all()


@pytest.mark.parametrize("mode", ["force", "fit"])
def test_mosaic(make_cfg, mode):
    augment = geometric(make_cfg)
    painter = Augmenter(augment, spec(mode))
    four = [source_image(120, 90, [0.35, 0.35, 0.65, 0.65], label) for label in range(4)]
    rng = np.random.default_rng(0)
    counts = np.zeros(4, int)
    for _ in range(60):
        paint, rows = painter.mosaic(four, rng)
        image = paint()
        assert image.shape == (80, 100, 3)
        for row in rows:
            label = int(row[0])
            counts[label] += 1
            xmin, ymin, xmax, ymax = np.rint(row[1:5] * (100, 80, 100, 80)).astype(int)
            inner = image[ymin + 2 : ymax - 2, xmin + 2 : xmax - 2, 0]
            assert inner.size == 0 or np.abs(inner.astype(int) - (RED - 40 * label)).max() <= 2
    assert counts.min() > 20


def test_mixup_shows_both(make_cfg):
    painter = Augmenter(geometric(make_cfg), spec())
    dark, light = (partial(np.full, (80, 100, 3), level, np.uint8) for level in (0, 200))
    rows = np.array([[1, 0, 0, 1, 1, 0], [2, 0, 0, 0.5, 1, 0]], np.float32)
    shares = []
    for seed in range(50):
        paint, both = painter.mixup((dark, rows[:1]), (light, rows[1:]), np.random.default_rng(seed))
        np.testing.assert_array_equal(both, rows)
        shares.append(paint()[0, 0, 0] / 200)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert 0.3 < min(shares) < max(shares) < 0.7


def test_a_image_without_objects(make_cfg):
    painter = Augmenter(geometric(make_cfg), spec())
    empty = source_image(60, 40, [0, 0, 1, 1])
    empty = EncodedImage(empty.data, empty.size, np.zeros((0, 6)), "e.png")
    shown = 0
    for seed in range(100):
        paint, rows = painter.augment_batch([empty], np.random.default_rng(seed))[0]
        assert rows.shape == (0, 6)
        shown += (paint()[..., 1] < FILL).any()
    assert shown > 80  # now and then a crop shows nothing but the border


def test_a_image_smaller_than_its_header_says(make_cfg):
    lying = source_image(60, 40, [0, 0, 1, 1])
    lying = EncodedImage(lying.data, Size(90, 80), lying.boxes, "lying.png")
    paint, _ = Augmenter(read_augment(make_cfg("none").augment), spec()).augment_batch(
        [lying], np.random.default_rng(0)
    )[0]
    with pytest.raises(UserError, match="lying.png: the image is smaller than its header says"):
        paint()


def test_the_same_random_numbers_paint_the_same(make_cfg):
    painter = Augmenter(read_augment(make_cfg("ssd").augment), spec())
    source = source_image(120, 90, [0.2, 0.2, 0.8, 0.8])
    (paint, rows), (paint2, rows2) = (
        painter.augment_batch([source, source], np.random.default_rng(5))[1] for _ in range(2)
    )
    np.testing.assert_array_equal(paint(), paint2())
    np.testing.assert_array_equal(rows, rows2)
