"""`augment=ssd` draws what MXNet's iterator draws with the original's parameters: crops, expansions, kept boxes.

Both paint images whose red tells the column and whose green the row, so that the corners of an input tell the
window it shows. The iterator repeats the same random numbers in every run; ours are fixed by the seed.
"""

import cv2
import numpy as np
import pytest

from ssd.config.augment import read_augment
from ssd.config.parts import loader_config
from ssd.data.loaders.base import Shard
from ssd.data.loaders.mxnet_iter import RecordLoader
from ssd.data.recordio.cache import Records
from ssd.data.transforms.crop import centers_inside, clipped, relative_to, sample_crops
from ssd.mxnet_compat import mx

IMAGES = 48
THEIR_EPOCHS, OUR_EPOCHS = 120, 1000
WIDTH, HEIGHT = 160, 120
SIDE = 64  # of the iterator's inputs
LEVELS = 240  # of red and green; blue is 255 in the image, 127 beside it


def ground_truth() -> list[np.ndarray]:
    """One to four boxes of all sizes per image, float64 [N, 4]."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(IMAGES):
        size = rng.uniform(0.08, 0.9, (1 + number % 4, 2))
        corner = rng.uniform(0, 1, size.shape) * (1 - size)
        rows.append(np.concatenate([corner, corner + size], axis=1))
    return rows


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Records:
    folder = tmp_path_factory.mktemp("gradients")
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    image[..., 2] = np.rint((np.arange(WIDTH) + 0.5) / WIDTH * LEVELS)[None, :]
    image[..., 1] = np.rint((np.arange(HEIGHT) + 0.5) / HEIGHT * LEVELS)[:, None]
    data = cv2.imencode(".png", image)[1].tobytes()
    rec, idx, lst = (folder / f"a{suffix}" for suffix in (".rec", ".idx", ".lst"))
    file = mx.recordio.MXIndexedRecordIO(str(idx), str(rec), "w")
    for number, corners in enumerate(ground_truth()):
        rows = [[2.0, 6.0], *([0.0, *row, 0.0] for row in corners.tolist())]
        label = np.array([value for row in rows for value in row])
        file.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), data))
    file.close()
    return Records(rec, idx, lst, IMAGES, 2 + 6 * 4)


def window_of(image: np.ndarray) -> list[float]:
    """(xmin, ymin, xmax, ymax) in shares of the image, from where its part lies in the input and what it shows."""
    inside = image[2] > 190
    if inside.sum() < 30:
        return [np.nan] * 4
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    edges = []
    for line, used in ((image[0][rows[len(rows) // 2]], columns), (image[1][:, columns[len(columns) // 2]], rows)):
        first, last = used[0] + 1, used[-1] - 1  # the outermost pixels mix with the border
        scale = (line[last] - line[first]) / LEVELS / max(1, last - first)  # of the image per pixel
        low = line[first] / LEVELS - (first + 0.5) * scale
        edges.append((low, low + SIDE * scale))
    (left, right), (top, bottom) = edges
    return [left, top, right, bottom]


@pytest.fixture(scope="module")
def theirs(records) -> dict[str, np.ndarray]:
    """What came out of the iterator: windows [K, 4], kept boxes per input [K], their sides [K']."""
    from ssd.config.compose import compose

    cfg = compose(["augment=ssd", "augment.interpolation=bilinear", f"data_shape={SIDE}", "loader=record",
                   "batch_size=48", "augment.mirror=0", "augment.hue.probability=0", "augment.contrast.probability=0",
                   "augment.saturation.probability=0", "augment.illumination.probability=0",
                   "backbone.input.mean=[0,0,0]", "backbone.input.std=[1,1,1]"])  # fmt: skip
    loader = RecordLoader(records, loader_config(cfg), records.label_width, Shard())
    windows, counts, sizes = [], [], []
    for _ in range(THEIR_EPOCHS):
        loader.reset()
        for batch in loader:
            windows += [window_of(image) for image in batch.data[0].asnumpy()]
            label = batch.label[0].asnumpy()
            counts += (label[..., 0] >= 0).sum(axis=1).tolist()
            rows = label[label[..., 0] >= 0]
            sizes += np.sqrt((rows[:, 3] - rows[:, 1]) * (rows[:, 4] - rows[:, 2])).tolist()
    return {"windows": np.array(windows), "counts": np.array(counts), "sizes": np.array(sizes)}


@pytest.fixture(scope="module")
def ours() -> dict[str, np.ndarray]:
    from ssd.config.compose import compose

    augment = read_augment(compose(["augment=ssd"]).augment)
    rng = np.random.default_rng(1)
    windows, counts, sizes = [], [], []
    padded = np.full((IMAGES, 4, 4), np.nan)
    for row, corners in zip(padded, ground_truth(), strict=True):
        row[: len(corners)] = corners
    for _ in range(OUR_EPOCHS):
        drawn = sample_crops(padded, np.full(IMAGES, WIDTH / HEIGHT), augment, rng)
        for corners, window in zip(ground_truth(), drawn, strict=True):
            kept = corners[centers_inside(corners, window[None])[:, 0]]
            kept = clipped(relative_to(kept, window), 1, 1)
            windows.append(window)
            counts.append(len(kept))
            sizes += np.sqrt((kept[:, 2] - kept[:, 0]) * (kept[:, 3] - kept[:, 1])).tolist()
    return {"windows": np.array(windows), "counts": np.array(counts), "sizes": np.array(sizes)}


def quantiles(values: np.ndarray) -> np.ndarray:
    return np.nanquantile(values, [0.1, 0.25, 0.5, 0.75, 0.9])


def test_kept_boxes(ours, theirs):
    """5760 inputs of the iterator: the mean has a standard error of 0.015 boxes."""
    assert ours["counts"].mean() == pytest.approx(theirs["counts"].mean(), abs=0.06)
    assert (ours["counts"] == 0).sum() == (theirs["counts"] == 0).sum() == 0


def test_box_sizes(ours, theirs):
    """Side of the boxes as a share of the input; standard errors of the quantiles are below 0.006."""
    np.testing.assert_allclose(quantiles(ours["sizes"]), quantiles(theirs["sizes"]), atol=0.025)


@pytest.mark.parametrize("axes", [(0, 2), (1, 3)], ids=["width", "height"])
def test_windows(ours, theirs, axes):
    """Width and height of the view in images: below one a crop, above one an expansion; 5 % of either."""
    low, high = axes
    first, second = (values["windows"][:, high] - values["windows"][:, low] for values in (ours, theirs))
    np.testing.assert_allclose(quantiles(first), quantiles(second), rtol=0.05)
    middle, other = (values["windows"][:, [low, high]].mean(axis=1) for values in (ours, theirs))
    np.testing.assert_allclose(quantiles(middle), quantiles(other), atol=0.06)


def test_area_and_shape_of_crops(ours, theirs):
    """Of views that lie inside the image."""
    areas, ratios = [], []
    for values in (ours, theirs):
        size = values["windows"][:, 2:] - values["windows"][:, :2]
        crops = size[(size < 0.97).any(axis=1) & (values["windows"] > -0.02).all(axis=1)
                     & (values["windows"] < 1.02).all(axis=1)]  # fmt: skip
        areas.append(crops.prod(axis=1))
        ratios.append(crops[:, 0] / crops[:, 1])
    shares = [len(area) / len(values["counts"]) for area, values in zip(areas, (ours, theirs), strict=True)]
    assert shares[0] == pytest.approx(shares[1], abs=0.025)
    np.testing.assert_allclose(quantiles(areas[0]), quantiles(areas[1]), atol=0.05)
    np.testing.assert_allclose(quantiles(ratios[0]), quantiles(ratios[1]), rtol=0.06)


def test_our_views_are_found_in_our_images(records, make_cfg):
    """The measuring itself: the windows read off the pixels are those that were drawn."""
    from ssd.config.parts import InputSpec
    from ssd.data.recordio.reader import RecordFile
    from ssd.data.transforms.augmenter import Augmenter

    augment = read_augment(make_cfg("ssd").augment)
    augment.mirror, augment.interpolation = 0, "bilinear"
    for name in ("hue", "saturation", "illumination", "contrast"):
        getattr(augment, name).probability = 0
    painter = Augmenter(augment, InputSpec(SIDE, SIDE, (0, 0, 0), (1, 1, 1), "force", antialias=True))
    file = RecordFile(records)
    for number in range(IMAGES):
        image = file.read(number)
        paint, _ = painter.augment_batch([image], np.random.default_rng(number))[0]
        aspect = np.array([WIDTH / HEIGHT])
        drawn = sample_crops(image.boxes[None, :, 1:5], aspect, augment, np.random.default_rng(number))[0]
        found = window_of(paint()[..., ::-1].transpose(2, 0, 1).astype(float))
        width = drawn[2] - drawn[0]
        assert np.isnan(found[0]) or found == pytest.approx(drawn, abs=0.03 * max(1, width) ** 2)
