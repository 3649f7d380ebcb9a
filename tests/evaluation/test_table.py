import numpy as np
import pytest

from ssd.evaluation.table import check_same_images, detection_table, ground_truth_table
from ssd.utils.errors import UserError

ROW = [0, 1, 2, 3, 4]


def test_joins_images_and_fills_missing_columns():
    table = ground_truth_table([np.array([ROW], np.float32), np.zeros((0, 5)), np.array([ROW, [2, 5, 6, 7, 8]])], 3)
    assert table.image.tolist() == [0, 2, 2]
    assert table.label.tolist() == [0, 0, 2]
    assert table.values.tolist() == [[1, 2, 3, 4, 0, 0], [1, 2, 3, 4, 0, 0], [5, 6, 7, 8, 0, 0]]


@pytest.mark.parametrize("empty", [[], [np.zeros((0, 6))], [np.array([])], [[]]])
def test_nothing_is_fine(empty):
    assert detection_table(empty, 2).values.shape == (0, 5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([np.array([[0, 1, 2, 3]])], r"ground truth of image 0 has shape \(1, 4\).*5 or 6 or 7"),
        ([np.array([ROW]), np.array([[*ROW, 0]])], r"image 1 has shape \(1, 6\)"),
        ([np.array([]), np.array(ROW)], r"image 1 has shape \(5,\)"),
        ([np.array([[0, 1, 2, np.nan, 4]])], "image 0 .*not finite"),
        ([np.zeros((0, 5)), np.array([[-1, 1, 2, 3, 4]])], "image 1 holds class -1: .*0 to 1"),
        ([np.array([[2, 1, 2, 3, 4]])], "holds class 2"),
        ([np.array([[0.5, 1, 2, 3, 4]])], r"holds class 0\.5"),
    ],
)
def test_bad_rows_are_told_in_one_line(rows, message):
    with pytest.raises(UserError, match=message):
        ground_truth_table(rows, 2)


def test_different_number_of_images():
    with pytest.raises(UserError, match="2 images but detections are for 1"):
        check_same_images([[], []], [[]])
