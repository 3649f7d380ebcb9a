"""Ranges of activations."""

import numpy as np
import pytest

from ssd.export.calibration import BINS, Histogram, check_method, one_by_one, ranges
from ssd.utils.errors import UserError


def histogram(*batches):
    found = Histogram()
    for values in batches:
        found.add(np.array(values, np.float32))
    return found


def test_every_value_counts_when_the_range_grows():
    found = histogram([1, -1, 0.1], [50, 0], [-3000.0])
    assert found._counts.sum() == 6
    assert found.range("minmax") == (-3000, 50)
    assert found._counts[BINS // 2] == 4  # what is near 0 stays there


def test_zero_is_in_every_range():
    assert histogram([3.0, 5.0]).range("minmax") == (0, 5)
    assert histogram([-3.0, -5.0]).range("minmax") == (-5, 0)
    assert histogram([0.0]).range("entropy") == (0, 0)


def test_outliers_are_cut_off():
    values = np.append(np.random.default_rng(0).normal(0, 1, 1_000_000).clip(-4, 4), [300, -200])
    found = histogram(values)
    assert found.range("minmax") == (-200, 300)
    for method in ("percentile", "entropy"):
        low, high = found.range(method)
        assert -20 < low < -3
        assert 3 < high < 20
    positive = histogram(np.abs(values))
    assert positive.range("entropy")[0] == positive.range("percentile")[0] == 0


def test_what_cannot_be_calibrated():
    with pytest.raises(UserError, match="no images"):
        ranges({}, "minmax")
    with pytest.raises(UserError, match="not finite"):
        histogram([np.nan])
    with pytest.raises(UserError, match="median: expected"):
        check_method("median")


def test_batches_one_by_one():
    assert [len(part) for part in one_by_one([np.zeros((3, 2)), np.zeros((1, 2))])] == [1] * 4
