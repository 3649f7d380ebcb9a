import random

import numpy as np
import pytest

from ssd.mxnet_compat import mx
from ssd.training.progress import Meter, Progress, pack, unpack
from ssd.training.state import all_finite, draws, optimizer_states, random_state, restore_optimizer, restore_random
from ssd.utils.errors import UserError


def module(optimizer: str, contexts: int, **options: float) -> mx.mod.Module:
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=3, name="fc")
    net = mx.sym.LinearRegressionOutput(net, mx.sym.Variable("label"), name="out")
    made = mx.mod.Module(net, label_names=["label"], context=[mx.cpu(index) for index in range(contexts)])
    made.bind([("data", (4, 5))], [("label", (4, 3))])
    mx.random.seed(1)
    made.init_params(mx.init.Uniform(0.1))
    made.init_optimizer("local" if contexts > 1 else None, optimizer, {"learning_rate": 0.1, **options})
    return made


def steps(made: mx.mod.Module, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data, label = (mx.nd.array(rng.normal(size=(4, width))) for width in (5, 3))
        made.forward_backward(mx.io.DataBatch([data], [label]))
        made.update()


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("on_store", ["0", "1"])
@pytest.mark.parametrize(
    ("optimizer", "options", "slots"),
    [
        ("sgd", {"momentum": 0.9}, 1),
        ("sgd", {"momentum": 0.0}, 0),
        ("adam", {}, 2),
        ("rmsprop", {}, 1),
        ("rmsprop", {"centered": True}, 3),
        ("adadelta", {}, 2),
    ],
)
def test_an_optimizer_goes_on_where_it_was(
    optimizer: str, options: dict, slots: int, devices: int, on_store: str, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setenv("MXNET_UPDATE_ON_KVSTORE", on_store)
    first = module(optimizer, devices, **options)
    steps(first, 3, seed=0)
    states = optimizer_states(first)
    assert states.keys() == {f"fc_{kind}:{slot}" for kind in ("weight", "bias") for slot in range(slots)}
    second = module(optimizer, devices, **options)
    second.init_params(arg_params=first.get_params()[0], aux_params={}, force_init=True)
    # The store has parameters of its own: they are given when the optimizer is made.
    second.init_optimizer(
        "local" if devices > 1 else None, optimizer, {"learning_rate": 0.1, **options}, force_init=True
    )
    if states:
        mx.nd.save(str(tmp_path / "x.states"), states)
        states = mx.nd.load(str(tmp_path / "x.states"))
    restore_optimizer(second, states, first._optimizer.num_update)
    steps(first, 3, seed=9)
    steps(second, 3, seed=9)
    assert second._optimizer.num_update == 6
    for name, array in first.get_params()[0].items():
        np.testing.assert_array_equal(array.asnumpy(), second.get_params()[0][name].asnumpy())


@pytest.mark.parametrize("change", ["shape", "slot"])
def test_states_of_another_optimizer(change: str) -> None:
    made = module("adam", 1)
    steps(made, 1, seed=0)
    states = optimizer_states(made)
    if change == "shape":
        states["fc_bias:1"] = mx.nd.zeros(2)
    else:
        del states["fc_bias:1"]
    with pytest.raises(UserError, match="fc_bias:1 of the checkpoint does not fit"):
        restore_optimizer(module("adam", 1), states, 1)


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
    assert draws(mx.sym.Dropout(data))
    assert draws(data + mx.sym.random.normal(shape=(1,)))
    assert not draws(mx.sym.Activation(mx.sym.UpSampling(data, scale=2, sample_type="nearest"), act_type="relu"))
