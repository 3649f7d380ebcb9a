"""The optimizer's state through MXNet's Module and back."""

import re
from pathlib import Path

import numpy as np
import pytest

from ssd.mxnet_compat import mx
from ssd.training.module_adapter import ModuleAdapter
from ssd.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2] / "ssd"


def module(optimizer: str, contexts: int, **options: float) -> ModuleAdapter:
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=3, name="fc")
    net = mx.sym.LinearRegressionOutput(net, mx.sym.Variable("label"), name="out")
    made = mx.mod.Module(net, label_names=["label"], context=[mx.cpu(index) for index in range(contexts)])
    made.bind([("data", (4, 5))], [("label", (4, 3))])
    mx.random.seed(1)
    made.init_params(mx.init.Uniform(0.1))
    made.init_optimizer("local" if contexts > 1 else None, optimizer, {"learning_rate": 0.1, **options})
    return ModuleAdapter(made)


def steps(made: ModuleAdapter, count: int, seed: int) -> None:
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
    states = first.optimizer_states()
    assert states.keys() == {f"fc_{kind}:{slot}" for kind in ("weight", "bias") for slot in range(slots)}
    second = module(optimizer, devices, **options)
    second.module.init_params(arg_params=first.get_params()[0], aux_params={}, force_init=True)
    # The store has parameters of its own: they are given when the optimizer is made.
    second.module.init_optimizer(
        "local" if devices > 1 else None, optimizer, {"learning_rate": 0.1, **options}, force_init=True
    )
    if states:
        mx.nd.save(str(tmp_path / "x.states"), states)
        states = mx.nd.load(str(tmp_path / "x.states"))
    second.restore_optimizer(states, first.updates)
    steps(first, 3, seed=9)
    steps(second, 3, seed=9)
    assert second.updates == 6
    for name, array in first.get_params()[0].items():
        np.testing.assert_array_equal(array.asnumpy(), second.get_params()[0][name].asnumpy())


@pytest.mark.parametrize("change", ["shape", "slot"])
def test_states_of_another_optimizer(change: str) -> None:
    made = module("adam", 1)
    steps(made, 1, seed=0)
    states = made.optimizer_states()
    if change == "shape":
        states["fc_bias:1"] = mx.nd.zeros(2)
    else:
        del states["fc_bias:1"]
    with pytest.raises(UserError, match="fc_bias:1 of the checkpoint does not fit"):
        module("adam", 1).restore_optimizer(states, 1)


def test_no_other_file_reads_private_names_of_mxnet() -> None:
    """The Module's go through the adapter, those of the library through mxnet_compat."""
    private = re.compile(
        r"(?<!self)\._(exec_group|optimizer|updater|kvstore|update_on_kvstore|arg_params|aux_params|param_names|aux_names"
        r"|fixed_param_names|grad_req|LIB)\b"
    )
    files = [file for file in ROOT.rglob("*.py") if private.search(file.read_text())]
    assert sorted(str(file.relative_to(ROOT)) for file in files) == ["mxnet_compat.py", "training/module_adapter.py"]
