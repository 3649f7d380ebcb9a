"""What a split's images decide about a difference."""

import numpy as np

from ssd.evaluation.matching import join
from ssd.evaluation.measure import difference_intervals
from ssd.evaluation.voc import summarize

BOX = [10.0, 10, 50, 50]


def found(images: int, missed: set[int]) -> list[np.ndarray]:
    return [np.array([[0, 0.9, *BOX]] if n not in missed else np.zeros((0, 6))) for n in range(images)]


def of_pair(truth, pair, names):
    joined = tuple(join(truth, found, 1) for found in pair)
    return difference_intervals(joined, lambda drawn: summarize(drawn.matches(0.5)), names)


def intervals(images: int, first: set[int], second: set[int]):
    truth = [np.array([[0, *BOX]])] * images
    pair = found(images, first), found(images, second)
    return of_pair(truth, pair, ["map_area", "map_11pt"])


def test_one_image_of_few_decides_nothing() -> None:
    low, high = intervals(30, set(), {3})["map_area"]
    assert low == 0
    assert 1 / 30 < high < 6 / 30


def test_many_images_decide() -> None:
    """The difference of a share p of n images is binomial: p n lost, with a deviation of sqrt(n p (1 - p))."""
    low, high = intervals(200, set(), set(range(40)))["map_area"]
    assert abs(low - 0.2 + 1.96 * (0.2 * 0.8 / 200) ** 0.5) < 0.01
    assert abs(high - 0.2 - 1.96 * (0.2 * 0.8 / 200) ** 0.5) < 0.01


def test_what_both_miss_is_no_difference() -> None:
    missed = {1, 5, 6}
    assert intervals(20, missed, missed)["map_11pt"] == (0, 0)
    assert intervals(60, set(range(20)), set())["map_area"].high < 0


def test_the_same_every_time_and_without_objects_left_out() -> None:
    assert intervals(25, {1}, {2}) == intervals(25, {1}, {2})
    truth = [np.array([[0, *BOX]]), *[np.zeros((0, 5))] * 3]
    pair = found(4, {1, 2, 3}), found(4, {0, 1, 2, 3})
    interval = of_pair(truth, pair, ["map_area"])["map_area"]
    assert interval == (1, 1)  # of every drawing that has the object
