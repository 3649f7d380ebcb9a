import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.diagnostics.clusters import kmeans, shape_iou

side = st.floats(1, 500)
shapes_of_boxes = st.lists(st.tuples(side, side), min_size=1, max_size=40).map(np.array)


def mean_iou(shapes: np.ndarray, centers: np.ndarray) -> float:
    return shape_iou(shapes, centers).max(axis=1).mean()


def test_shape_iou_by_hand():
    found = shape_iou(np.array([[2.0, 2.0], [4.0, 1.0]]), np.array([[2.0, 2.0], [1.0, 4.0]]))
    np.testing.assert_allclose(found, [[1, 2 / 6], [2 / 6, 1 / 7]])


def test_clear_clusters_are_found():
    random = np.random.default_rng(0)
    truth = np.array([[10, 20], [50, 50], [200, 100]])
    shapes = (truth[:, None] * np.exp(random.normal(0, 0.03, (3, 60, 2)))).reshape(-1, 2)
    np.testing.assert_allclose(kmeans(shapes, 3, seed=0), truth, rtol=0.03)


@settings(deadline=None, max_examples=40)
@given(shapes_of_boxes, st.integers(1, 6), st.randoms())
def test_the_order_of_the_boxes_does_not_matter(shapes, count, random):
    shuffled = shapes.tolist()
    random.shuffle(shuffled)
    np.testing.assert_array_equal(kmeans(shapes, count, 1), kmeans(np.array(shuffled), count, 1))


@settings(deadline=None, max_examples=40)
@given(shapes_of_boxes, st.integers(1, 6))
def test_centers_are_sorted_and_lie_among_the_boxes(shapes, count):
    centers = kmeans(shapes, count, 0)
    assert centers.shape == (count, 2)
    assert (np.diff(centers.prod(axis=1)) >= 0).all()
    assert (centers >= shapes.min(axis=0)).all()
    assert (centers <= shapes.max(axis=0)).all()


def test_more_clusters_are_not_worse_on_average():
    values = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        shapes = np.exp(random.normal(4, 0.7, (150, 2)))
        values.append([mean_iou(shapes, kmeans(shapes, count, seed)) for count in range(1, 9)])
    average = np.mean(values, axis=0)
    assert (np.diff(average) > 0).all()


@given(st.integers(1, 5))
@settings(deadline=None, max_examples=5)
def test_as_many_clusters_as_boxes_meet_all_of_them(count):
    shapes = np.array([[10.0 * 3**k, 10.0] for k in range(count)])
    assert mean_iou(shapes, kmeans(shapes, count, 0)) == pytest.approx(1)
    assert kmeans(shapes, count + 2, 0).shape == (count + 2, 2)  # more than that is harmless
