import numpy as np

from ssd.detection.draw import TRUTH
from ssd.diagnostics.sheet import GAP, draw_batch, draw_sample, grid
from ssd.utils.sequences import spread


def test_a_batch_is_shown_as_images_again():
    images = np.random.default_rng(0).integers(0, 256, (3, 100, 100, 3), dtype=np.uint8)
    label = np.full((3, 2, 6), -1.0)
    label[1, 0] = (1, 0.25, 0.5, 0.75, 1.0, 0)
    sheet = draw_batch(images, label, ("cat", "dog"))
    assert sheet.shape == (200, 3 * 200 + 2 * GAP, 3)
    assert sheet.dtype == np.uint8
    for number, x in ((0, 0), (2, 2 * (200 + GAP))):  # those without objects, pixel by pixel, each twice as large
        np.testing.assert_array_equal(sheet[::2, x : x + 200 : 2], images[number])
    second = sheet[:, 200 + GAP : 400 + GAP]
    green = np.argwhere((second == TRUTH).all(axis=2))
    assert (green.min(axis=0).tolist(), green.max(axis=0).tolist()) == ([100, 50], [199, 149])


def test_samples_are_scaled_with_their_boxes(folder):
    sample = folder.dataset().split("train")[0]
    before = sample.boxes.copy()
    drawn = draw_sample(sample, ("cat", "dog"), 48)
    assert drawn.shape == (32, 48, 3)
    np.testing.assert_array_equal(sample.boxes, before)


def test_grid_of_different_sizes():
    tiles = [np.zeros((10, 20, 3), np.uint8), np.zeros((15, 20, 3), np.uint8), np.zeros((5, 30, 3), np.uint8)]
    sheet = grid(tiles, 2)
    assert sheet.shape == (15 + GAP + 5, 40 + GAP, 3)
    assert (sheet[10:15, :20] == 255).all()
    assert (sheet[15 + GAP :, :30] == 0).all()


def test_spread():
    assert spread(list(range(101)), 3) == [0, 50, 100]
    assert spread([1, 2], 5) == [1, 2]
    assert spread([], 5) == []
