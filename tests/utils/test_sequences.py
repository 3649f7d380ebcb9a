import pytest

from ssd.utils.sequences import read_ahead, spread


def test_spread_takes_the_ends_and_no_item_twice():
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 5) == [1, 2]
    assert spread([], 3) == []


@pytest.mark.parametrize("ahead", [1, 3, 50])
def test_results_come_in_order_and_no_more_are_begun_than_asked_for(ahead):
    begun = []

    def items():
        for number in range(20):
            begun.append(number)
            yield number

    results = read_ahead(lambda number: number**2, items(), ahead, threads=4)
    assert next(results) == 0
    assert len(begun) == min(ahead, 20)
    assert list(results) == [number**2 for number in range(1, 20)]


def test_an_exception_comes_in_its_place():
    results = read_ahead(lambda number: 1 // number, [2, 1, 0, 1], 2)
    assert (next(results), next(results)) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
