import numpy as np
import pytest

from ssd.data.placement import InputSpec
from ssd.detection.batches import draw_batch
from ssd.engine import mx

SPEC = InputSpec(40, 60, (10.0, 20.0, 30.0), (2.0, 4.0, 5.0), "force", antialias=True)


def batch(floats: bool) -> mx.io.DataBatch:
    pixels = np.full((5, 3, 40, 60), 90, np.uint8)
    pixels[:, 0] = np.arange(5).reshape(5, 1, 1) * 10
    label = np.full((5, 3, 6), -1, np.float32)
    label[2, 0] = (1, 0.25, 0.25, 0.75, 0.75, 0)
    mean, std = (np.float32(values).reshape(3, 1, 1) for values in (SPEC.mean, SPEC.std))
    data = mx.nd.array((pixels - mean) / std) if floats else mx.nd.array(pixels, dtype="uint8")
    return mx.io.DataBatch([data], [mx.nd.array(label)])


@pytest.mark.parametrize("floats", [False, True])
def test_the_grid_shows_what_the_network_sees(floats):
    grid = draw_batch(batch(floats), SPEC, ["cat", "dog"])
    assert grid.dtype == np.uint8
    assert grid.shape == (3 * 44 - 4, 2 * 64 - 4, 3)  # five inputs of 60x40: two columns
    for number in range(5):
        top, left = number // 2 * 44, number % 2 * 64
        tile = grid[top : top + 40, left : left + 60]
        assert (tile[0, 0] == (number * 10, 90, 90)).all()
        assert (tile[20, 30] == (number * 10, 90, 90)).all()
        assert ((tile[10, 15:45] != (number * 10, 90, 90)).any()) == (number == 2)  # upper edge of the box
    assert (grid[92:, 64:] == 255).all()


def test_labels_are_left_alone():
    one = batch(False)
    before = one.label[0].asnumpy()
    draw_batch(one, SPEC, ["cat", "dog"])
    np.testing.assert_array_equal(one.label[0].asnumpy(), before)
