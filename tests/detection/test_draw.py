import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.detection.draw import class_color, draw, draw_ground_truth, printable, side_by_side

NAMES = ["dog", "Vélo", "猫"]
EMPTY = np.zeros((0, 6), np.float32)


def gray(height=200, width=300):
    return np.full((height, width, 3), 128, np.uint8)


def changed(before, after):
    return (before != after).any(axis=2)


def test_colors_are_distinct_and_belong_to_the_index():
    colors = np.array([class_color(label) for label in range(80)])
    assert class_color(0) == class_color(0)
    assert len(np.unique(colors, axis=0)) == 80
    distance = np.abs(colors[:20, None] - colors[None, :20]).sum(axis=2) + 999 * np.eye(20)
    assert distance.min() > 60  # of 765


def test_box_lies_where_it_should_in_its_color():
    image = gray()
    result = draw(image, np.array([[1, 0.9, 100, 80, 200, 150]]), NAMES, 0.5)
    color = class_color(1)
    for y, x in ((149, 150), (120, 100), (120, 199)):
        assert tuple(result[y, x]) == color
    assert (result[110:140, 110:190] == 128).all()
    assert (image == 128).all()


def test_threshold_is_included():
    detections = np.array([[0, 0.5, 20, 50, 60, 90], [0, 0.49, 120, 50, 160, 90]])
    result = changed(gray(), draw(gray(), detections, NAMES, 0.5))
    assert result[:, :110].any()
    assert not result[:, 150:].any()


def test_the_best_box_is_drawn_last():
    detections = np.array([[0, 0.9, 50, 50, 150, 150], [1, 0.6, 50, 50, 150, 150]])
    assert tuple(draw(gray(), detections, NAMES, 0.5)[149, 100]) == class_color(0)


def test_label_stays_inside_the_image():
    """A box in the top right corner: its label cannot be above it nor reach beyond the edge."""
    result = draw(gray(), np.array([[0, 0.9, 270, 0, 300, 60]]), NAMES, 0.5)
    assert changed(gray(), result)[:30, 200:].sum() > 400


def test_ground_truth_looks_different_from_every_detection():
    boxes = np.array([[0, 100, 80, 200, 150, 0]])
    truth = draw_ground_truth(gray(), boxes, NAMES)
    found = draw(gray(), np.array([[0, 1, 100, 80, 200, 150]]), NAMES, 0)
    bottom = truth[149, 100:200]
    assert len(np.unique(bottom, axis=0)) == 2  # dashes
    assert len(np.unique(found[149, 100:200], axis=0)) == 1


def test_difficult_ground_truth_is_marked():
    easy, difficult = (draw_ground_truth(gray(), np.array([[0, 100, 80, 200, 150, flag]]), NAMES) for flag in (0, 1))
    assert changed(easy, difficult).any()


def test_ground_truth_without_difficult_column():
    assert changed(gray(), draw_ground_truth(gray(), np.array([[0, 100, 80, 200, 150]]), NAMES)).any()


def test_names_that_the_font_cannot_draw():
    assert printable("Vélo", 1) == "Velo"
    assert printable("猫", 2) == "class 2"
    assert printable("a\nb", 0) == "ab"
    assert changed(gray(), draw(gray(), np.array([[2, 0.9, 100, 80, 200, 150]]), NAMES, 0.5)).any()


def test_labels_do_not_hide_each_other_nor_a_thumbnail():
    many = np.array([[0, 0.9 - index / 100, 5 + 5 * index, 20, 12 + 5 * index, 30] for index in range(6)])
    small = draw(gray(40, 40), many, NAMES, 0.5)
    assert changed(gray(40, 40), small).mean() < 0.7


def test_side_by_side():
    image = gray(100, 150)
    result = side_by_side(image, np.array([[0, 10, 30, 60, 90, 0]]), np.array([[0, 0.9, 10, 30, 60, 90]]), NAMES, 0.5)
    assert result.dtype == np.uint8
    assert result.shape[0] > 100
    assert result.shape[1] > 300
    left, right = result[-100:, :150], result[-100:, -150:]
    assert changed(left, right).any()


def test_side_by_side_of_nothing():
    assert side_by_side(gray(), np.zeros((0, 5)), EMPTY, NAMES, 0.5).shape[1] > 600


def test_read_only_and_flipped_arrays_are_fine():
    image = gray()[:, ::-1]
    image.flags.writeable = False
    assert changed(gray(), draw(image, np.array([[0, 0.9, 100, 80, 200, 150]]), NAMES, 0.5)).any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (40, 40), (3000, 4000)])
def test_any_size(shape):
    height, width = shape
    boxes = np.array([[0, 0.9, 0, 0, width, height], [1, 0.8, width / 4, height / 4, width / 2, height / 2]])
    result = draw(gray(height, width), boxes, NAMES, 0.5)
    assert result.shape == (height, width, 3)
    assert changed(gray(height, width), result).any()
    side_by_side(gray(height, width), np.delete(boxes, 1, axis=1), boxes, NAMES, 0.5)


def test_lines_and_letters_grow_with_the_image():
    boxes = np.array([[0, 0.9, 0.2, 0.5, 0.8, 0.9]])
    for side in (120, 2400):
        scaled = boxes * [1, 1, side, side, side, side]
        bottom = changed(gray(side, side), draw(gray(side, side), scaled, NAMES, 0.5))[:, side // 2]
        thickness = bottom[int(side * 0.8) :].sum()
        assert thickness / side > 0.003


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4), st.integers(1, 80), st.integers(1, 80))
@settings(deadline=None)
def test_boxes_outside_the_image_never_crash(corners, height, width):
    image = gray(height, width)
    assert draw(image, np.array([[0, 0.9, *corners]]), NAMES, 0.5).shape == image.shape
    assert draw_ground_truth(image, np.array([[0, *corners, 1]]), NAMES).shape == image.shape
