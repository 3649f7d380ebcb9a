import random

import numpy as np
import pytest

from ssd.mxnet_compat import mx
from ssd.training.progress import Meter, Progress, pack, unpack
from ssd.training.state import all_finite, has_random_ops, random_state, restore_random
from ssd.utils.errors import UserError


def test_random_generators() -> None:
    random.seed(3)
    np.random.seed(3)
    np.random.normal()  # leaves a second number behind
    state = unpack(pack({"random": random_state()}))["random"]
    first = (random.random(), np.random.normal(size=3).tolist(), np.random.randint(9))
    restore_random(state)
    assert (random.random(), np.random.normal(size=3).tolist(), np.random.randint(9)) == first


def test_progress_comes_back_to_the_last_bit() -> None:
    progress = Progress(3, 17, Meter(images=4, waited=0.1 + 0.2), Meter())
    again = Progress.from_json(unpack(pack(progress.to_json())))
    assert (again.epochs, again.step, again.whole.images, again.whole.waited) == (3, 17, 4, 0.1 + 0.2)
    assert again.whole.losses == progress.whole.losses
    assert again.whole.elapsed >= progress.whole.seconds
    with pytest.raises(UserError, match="cannot be read"):
        unpack(mx.nd.zeros(3, dtype="uint8"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_all_finite(bad: float) -> None:
    arrays = [mx.nd.ones((2, 3)), mx.nd.ones(5)]
    assert all_finite(arrays)
    arrays[1][2] = bad
    assert not all_finite(arrays)


def test_graphs_that_draw_random_numbers() -> None:
    data = mx.sym.Variable("data")
    assert has_random_ops(mx.sym.Dropout(data))
    assert has_random_ops(data + mx.sym.random.normal(shape=(1,)))
    assert not has_random_ops(
        mx.sym.Activation(mx.sym.UpSampling(data, scale=2, sample_type="nearest"), act_type="relu")
    )
