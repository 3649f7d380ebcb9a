"""SGD of one array after the other is MXNet's."""

import numpy as np
import pytest

from ssd.mxnet_compat import mx
from ssd.training import sgd


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "clip_gradient": 0.5}])
def test_as_mxnet_does_it(options: dict[str, float]) -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 4, 5)), rng.normal(size=(6, 3, 4, 5))
    found = []
    for name in ("sgd", sgd.NAME):
        optimizer = mx.optimizer.create(name, learning_rate=0.1, wd=0.01, rescale_grad=0.5, **options)
        optimizer.idx2name = {0: "a_weight", 1: "b_bias"}
        optimizer.set_lr_mult({"b_bias": 2.0})
        optimizer.set_wd_mult({})
        updater = mx.optimizer.get_updater(optimizer)
        weights = [mx.nd.array(start), mx.nd.array(start)]
        for gradient in gradients:
            updater([0, 1], [mx.nd.array(gradient)] * 2, weights)
        assert optimizer.num_update == len(gradients)
        found.append([weight.asnumpy() for weight in weights])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[0][0], found[0][1])
