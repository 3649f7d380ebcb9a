import numpy as np
import pytest

from ssd.mxnet_compat import mx
from ssd.training.losses import StepLosses, loss_divisor, read_losses


def outputs(rng: np.random.Generator, batch: int) -> tuple[list, StepLosses]:
    """Outputs of one device and their losses the slow way."""
    classes, anchors = 4, 7
    prob = rng.dirichlet(np.ones(classes), (batch, anchors)).transpose(0, 2, 1).astype("float32")
    label = rng.integers(-1, classes, (batch, anchors)).astype("float32")
    smooth = rng.random((batch, anchors * 4)).astype("float32")
    entropy = sum(
        -np.log(prob[b, int(label[b, a]), a]) for b in range(batch) for a in range(anchors) if label[b, a] >= 0
    )
    positives = (label > 0).sum()
    expected = StepLosses(entropy, (label >= 0).sum(), smooth.sum(), positives, positives)
    return [mx.nd.array(prob), mx.nd.array(smooth), mx.nd.array(label)], expected


def test_equal_the_definition_and_add_over_devices() -> None:
    rng = np.random.default_rng(0)
    first, expected_first = outputs(rng, 2)
    second, expected_second = outputs(rng, 3)
    got = read_losses([first, second], 3.0)
    expected = expected_first + expected_second
    for name in ("cross_entropy_sum", "anchors", "smooth_l1_sum", "positives", "cross_entropy", "smooth_l1", "loss"):
        assert getattr(got, name) == pytest.approx(getattr(expected, name), rel=1e-5)


def test_only_anchors_that_learn_count() -> None:
    prob = np.full((1, 2, 3), 0.5, "float32")
    prob[0, :, 2] = np.nan  # of an ignored anchor
    got = read_losses([[mx.nd.array(prob), mx.nd.zeros((1, 12)), mx.nd.array([[1, 0, -1]])]], 3.0)
    assert got.finite
    assert (got.anchors, got.positives) == (2, 1)
    assert got.cross_entropy == pytest.approx(np.log(2), rel=1e-5)


def test_nothing_to_learn_is_zero_and_nan_is_told() -> None:
    nothing = read_losses([[mx.nd.ones((1, 2, 3)), mx.nd.zeros((1, 12)), -mx.nd.ones((1, 3))]], 3.0)
    assert (nothing.loss, nothing.cross_entropy, nothing.smooth_l1) == (0, 0, 0)
    broken = read_losses([[mx.nd.ones((1, 2, 3)) * np.nan, mx.nd.zeros((1, 12)), mx.nd.zeros((1, 3))]], 3.0)
    assert not broken.finite


@pytest.mark.parametrize(
    ("positives", "anchors", "ratio", "divisor"),
    [
        (10, 40, 3.0, 10),  # three negatives each
        (10, 30, 3.0, 10),  # fewer negatives than wanted: still the positives
        (10, 76, 3.0, 19),  # four images without objects beside them, nine negatives each
        (0, 144, 3.0, 36),  # such images alone
        (0, 2, 3.0, 1),
        (0, 0, 3.0, 1),
        (10, 4000, 0.0, 10),  # no mining: every other anchor is a negative
    ],
)
def test_what_the_loss_is_divided_by(positives: float, anchors: float, ratio: float, divisor: float) -> None:
    assert loss_divisor(positives, anchors, ratio) == divisor
