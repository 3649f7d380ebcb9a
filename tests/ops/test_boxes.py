import numpy as np
import pytest

from ssd.ops.boxes import area, iou_matrix


def test_iou_of_hand_computed_boxes():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [5, 5, 15, 15], [20, 20, 30, 30]], float)
    expected = np.array([[1, 0.5, 25 / 175, 0], [0.5, 1, 0, 0], [25 / 175, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(iou_matrix(boxes, boxes), expected)


def test_no_plus_one_pixel():
    assert area(np.array([0.0, 0.0, 1.0, 1.0])) == 1


def test_continuous_boxes_give_the_devkit_iou_of_inclusive_pixels():
    a, b = np.array([48, 240, 195, 371]), np.array([60, 230, 210, 350])  # inclusive, 1-based, as in the XML files
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1
    union = np.prod(a[2:] - a[:2] + 1) + np.prod(b[2:] - b[:2] + 1) - np.prod(sides)
    shift = np.array([1, 1, 0, 0])
    ours = iou_matrix((a - shift)[None].astype(float), (b - shift)[None].astype(float))
    assert ours[0, 0] == pytest.approx(np.prod(sides) / union)


@pytest.mark.filterwarnings("error")
def test_boxes_without_area_overlap_nothing():
    boxes = np.array([[5, 5, 5, 5], [8, 8, 2, 2], [0, 0, 10, 10]], np.float32)
    assert iou_matrix(boxes[:2], boxes).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_empty_and_dtype():
    result = iou_matrix(np.zeros((0, 4), np.float32), np.zeros((3, 4), np.float32))
    assert result.shape == (0, 3)
    assert result.dtype == np.float32
