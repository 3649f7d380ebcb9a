"""The graph that the CPU trains: fewer operations, the same numbers."""

import numpy as np
import pytest

from ssd.config.compose import compose
from ssd.graph_passes.fuse import fused
from ssd.graph_passes.graph import Graph
from ssd.mxnet_compat import mx
from ssd.symbol import build_train

SIDE = 96


def train_graph(*overrides: str):
    tier = ["data_shape=96", "data_shape.tier=small"]
    return build_train(compose([*tier, *overrides]), 3)


def results(symbol, grad_req: str = "write"):
    """Outputs, gradients and statistics after a step from parameters that depend on their names alone."""
    rng = np.random.default_rng(0)
    label = mx.nd.array([[[1, 0.1, 0.1, 0.6, 0.7, 0], [-1] * 6]] * 2)
    shapes = {"data": (2, 3, SIDE, SIDE), "label": label.shape}
    executor = symbol.simple_bind(mx.cpu(), grad_req=grad_req, **shapes)
    for name, array in sorted(executor.arg_dict.items()):
        array[:] = rng.normal(0, 0.1, array.shape) + (1 if name.endswith("gamma") else 0)
    for name, array in executor.aux_dict.items():
        array[:] = 1 if name.endswith("var") else 0
    executor.arg_dict["label"][:] = label
    outputs = [output.asnumpy() for output in executor.forward(is_train=True)]
    executor.backward()
    gradients = {name: array.asnumpy() for name, array in executor.grad_dict.items()}
    return outputs, gradients, {name: array.asnumpy() for name, array in executor.aux_dict.items()}


@pytest.mark.parametrize("grad_req", ["write", "add"])
@pytest.mark.parametrize(
    "overrides",
    [["backbone=small"], ["backbone=mobilenet_025"], ["backbone=densenet_tiny", "head=ssd_bn"],
     ["backbone=small", "compat=mxnet_ssd"], ["backbone=mobilenet_025", "loss.classification=focal"]],
)  # fmt: skip
def test_outputs_gradients_and_statistics_stay(overrides: list[str], grad_req: str) -> None:
    plain = train_graph(*overrides)
    changed = fused(plain, (SIDE, SIDE))
    assert sorted(changed.list_arguments()) == sorted(plain.list_arguments())
    assert changed.list_auxiliary_states() == plain.list_auxiliary_states()
    assert changed.list_outputs() == plain.list_outputs()
    found, wanted = results(changed, grad_req), results(plain, grad_req)
    for ours, theirs in zip(found[0], wanted[0], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)  # normalized batches of two cells amplify rounding
    for ours, theirs in zip(found[1:], wanted[1:], strict=True):
        for name, array in theirs.items():
            assert np.linalg.norm(ours[name] - array) <= 2e-3 * np.linalg.norm(array) + 1e-6, name


def test_predictors_are_one_convolution_of_full_blocks() -> None:
    plain = Graph.of(train_graph("backbone=mobilenet_025"))
    changed = Graph.of(fused(plain.symbol(), (SIDE, SIDE)))
    joined = [node for node in changed.nodes() if "_and_" in node.name and node.op == "Convolution"]
    # With four anchors 16 and 16 filters are full blocks by themselves; with six, 24 and 24 are 48.
    assert [node.attrs["num_filter"] for node in joined] == ["48", "48", "48"]
    predictors = {node.name for node in plain.nodes() if node.name.endswith("_pred_conv")}
    found = {node.name: node.op for node in changed.nodes() if node.name in predictors}
    assert sorted(found) == sorted(predictors)
    assert sorted(found.values()).count("slice_axis") == 2 * len(joined)


def test_filters_are_filled_up() -> None:
    changed = Graph.of(fused(build_train(compose(["data_shape=96", "data_shape.tier=small"]), 20), (SIDE, SIDE)))
    joined = [node for node in changed.nodes() if "_and_" in node.name and node.op == "Convolution"]
    assert joined
    for node in joined:
        parts = [edge.node for edge in node.inputs[1].node.inputs]
        assert (parts[-1].op, int(node.attrs["num_filter"]) % 16) == ("_zeros", 0)


def test_anchors_ask_for_no_gradient() -> None:
    changed = Graph.of(fused(train_graph("backbone=small"), (SIDE, SIDE)))
    priors = [node for node in changed.nodes() if node.op == "_contrib_MultiBoxPrior"]
    assert {node.inputs[0].node.op for node in priors} == {"BlockGrad"}


def test_nothing_to_fuse() -> None:
    """A convolution alone is left as it is, whatever its filters."""
    data = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=10, kernel=(1, 1), name="conv")
    symbol = mx.sym.Group([data, mx.sym.Variable("label") * 2])
    assert [node.op for node in Graph.of(fused(symbol, (4, 4))).nodes()] == [
        node.op for node in Graph.of(symbol).nodes()
    ]
