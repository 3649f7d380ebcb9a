"""Boxes back in the pixels of the image, whatever way it was put into the input. The network is left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.config.parts import InputSpec
from ssd.data.base import Size
from ssd.data.transforms.resize import eval_resize
from ssd.detection.detector import _on_image

sides = st.integers(20, 700)


@given(sides, sides, sides, sides, st.sampled_from(["force", "fit"]), st.integers(0, 99))
def test_a_perfect_answer_is_the_ground_truth(width, height, input_width, input_height, mode, seed):
    spec = InputSpec(input_height, input_width, (0.0,) * 3, (1.0,) * 3, mode, antialias=False)
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 1, (4, 2, 2)), axis=1).reshape(4, 4)
    corners[:, 2:] = np.minimum(corners[:, :2] + 0.1, 1)
    truth = corners * ((width, height) * 2)
    rows = np.ones((4, 6), np.float32)
    rows[:, 2:] = eval_resize(Size(width, height), spec).to_input(truth) / ((input_width, input_height) * 2)
    found = _on_image(rows, np.zeros((height, width, 3), np.uint8), spec)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 2:] / ((width, height) * 2), corners, atol=1e-4)


def test_boxes_beside_the_image_are_no_detections():
    spec = InputSpec(100, 100, (0.0,) * 3, (1.0,) * 3, "fit", antialias=True)
    rows = np.array(
        [[0, 0.9, 0.1, 0.1, 0.5, 0.4], [1, 0.8, 0.1, 0.6, 0.5, 0.9], [2, 0.7, 0.5, 0.25, 1.0, 1.0]], np.float32
    )
    found = _on_image(rows, np.zeros((100, 200, 3), np.uint8), spec)
    np.testing.assert_allclose(found, [[0, 0.9, 20, 20, 100, 80], [2, 0.7, 100, 50, 200, 100]], atol=1e-4)


@pytest.mark.parametrize("size", [(300, 200), (120, 500)])
def test_force_is_a_stretch(size):
    spec = InputSpec(100, 100, (0.0,) * 3, (1.0,) * 3, "force", antialias=False)
    rows = np.array([[0, 0.9, 0.1, 0.2, 0.5, 0.4]], np.float32)
    found = _on_image(rows, np.zeros((size[1], size[0], 3), np.uint8), spec)
    np.testing.assert_allclose(found[0, 2:], rows[0, 2:] * (size * 2), rtol=1e-5)
