"""Graphs that others wrote: what would end the process ends in one line."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ssd.checkpoint import graph_file
from ssd.checkpoint.graph_file import check_graph, graph_errors, load_graph
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError


@pytest.fixture(autouse=True)
def _nothing_accepted(monkeypatch) -> None:
    monkeypatch.setattr(graph_file, "_accepted", set())


def network() -> Any:
    with mx.name.NameManager():
        data = mx.sym.Convolution(mx.sym.Variable("data"), kernel=(3, 3), num_filter=8, num_group=1, name="conv")
        pooled = mx.sym.Pooling(mx.sym.Activation(data, act_type="relu"), kernel=(2, 2), stride=(2, 2), pool_type="max")
        return mx.sym.Concat(pooled, mx.sym.BatchNorm(pooled, name="bn"), dim=1, name="both")


def stored(symbol: Any = None) -> dict[str, Any]:
    return json.loads((network() if symbol is None else symbol).tojson())


def node(content: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in content["nodes"] if entry["name"] == name)


def error(folder: Path, content: Any) -> str:
    path = folder / "a-symbol.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(UserError) as caught:
        load_graph(path)
    assert "\n" not in str(caught.value)
    assert "a-symbol.json" in str(caught.value)
    return str(caught.value)


def test_sound_graphs_come_back(tmp_path) -> None:
    path = tmp_path / "a-symbol.json"
    network().save(str(path))
    assert load_graph(path).list_outputs() == ["both_output"]


def test_old_files_call_attributes_otherwise(tmp_path) -> None:
    content = stored()
    for entry in content["nodes"]:
        entry["param"] = entry.pop("attrs", {})
    check_graph(content)
    node(content, "conv")["param"]["num_group"] = "0"
    with pytest.raises(ValueError, match="num_group=0 of 'conv'"):
        check_graph(content)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("num_group", "0", "num_group=0 of 'conv' is out of range"),
        ("num_group", "-1", "num_group=-1"),
        ("num_group", "3", "3 groups of 8 filters"),
        ("kernel", "(0, 3)", "kernel="),
        ("stride", "(0, 0)", "stride="),
        ("dilate", "(-1, 1)", "dilate="),
        ("pad", "(-5, 0)", "pad="),
        ("num_filter", "0", "num_filter=0"),
        ("num_filter", "99999999999999999999", "num_filter="),
        ("workspace", "9" * 5000, "workspace="),
        ("num_group", 0, "is no text"),
        ("num_filter", "many", "graph is damaged"),
        ("surprise", "1", "graph is damaged"),
    ],
)
def test_sizes_that_make_no_sense(key, value, part, tmp_path) -> None:
    content = stored()
    node(content, "conv")["attrs"][key] = value
    assert part in error(tmp_path, content)


CODE = ("Custom", "_Native", "_NDArray", "_CustomFunction", "_foreach", "_cond", "_cvimread", "_npi_cvimread",
        "_FusedOp", "_CachedOp", "sgd_update", "_backward_Convolution")  # fmt: skip


@pytest.mark.parametrize("operator", CODE)
def test_operators_that_could_run_anything(operator, tmp_path) -> None:
    content = stored()
    node(content, "both")["op"] = operator
    assert f"has the operator {operator!r}, which is not run out of files" in error(tmp_path, content)
    whole = stored()
    node(whole, "both")["subgraphs"] = [content]
    assert "is not run out of files" in error(tmp_path, whole)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda content: content.pop("nodes"), "no list of nodes"),
        (lambda content: content["nodes"].clear(), "0 nodes"),
        (lambda content: content["nodes"].append(3), "is no object"),
        (lambda content: content["nodes"][0].pop("op"), "no operator or no name"),
        (lambda content: content["nodes"][0].update(name=3), "no operator or no name"),
        (lambda content: content["nodes"][-1].update(inputs=[[10**6, 0, 0]]), "no output of a node before it"),
        (lambda content: content["nodes"][-1].update(inputs=[[len(content["nodes"]) - 1, 0, 0]]), "before it"),
        (lambda content: content["nodes"][-1].update(inputs=[[-1, 0, 0]]), "before it"),
        (lambda content: content["nodes"][-1].update(inputs=[[0, -1, 0]]), "before it"),
        (lambda content: content["nodes"][-1].update(inputs=3), "no list"),
        (lambda content: content["heads"][0].__setitem__(1, 1), "heads: .* is an output that node .* does not have"),
        (lambda content: content["nodes"][-1]["inputs"][1].__setitem__(1, 3), "inputs of 'both': .* does not have"),
        (lambda content: content["nodes"][-1].update(attrs=[]), ""),
        (lambda content: content["nodes"][-1].update(op="NoSuchOperator"), "NoSuchOperator is not registered"),
        (lambda content: content.update(heads=[[99, 0, 0]]), "heads"),
        (lambda content: content.pop("heads"), "heads are no list"),
        (lambda content: content.update(arg_nodes=[-1]), "arg_nodes"),
    ],
)
def test_graphs_that_hold_no_graph(change, part, tmp_path) -> None:
    content = stored()
    change(content)
    if part:
        assert re.search(part, error(tmp_path, content))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"9" * 10_000, b'{"nodes": 3}'])
def test_files_that_are_none(content, tmp_path) -> None:
    error(tmp_path, content)


def test_a_graph_that_ends_the_process_ends_a_copy(tmp_path, monkeypatch) -> None:
    """Whatever the checks miss."""
    monkeypatch.setattr(graph_file, "check_graph", lambda stored: {"Convolution"})
    content = stored()
    node(content, "conv")["attrs"]["num_group"] = "0"
    assert "it ends the process that uses it (killed by SIG" in error(tmp_path, content)
    monkeypatch.setattr(graph_file, "try_shapes", lambda text, sides: os.kill(os.getpid(), 11))
    assert "(killed by SIGSEGV)" in error(tmp_path, stored())
    monkeypatch.setattr(graph_file, "try_shapes", lambda text, sides: 1 / 0)
    assert "(ended with exit code 1)" in error(tmp_path, stored())
    monkeypatch.setattr(graph_file, "try_shapes", lambda text, sides: os.read(os.pipe()[0], 1))
    monkeypatch.setattr(graph_file, "LIMIT", 0.2)
    assert "not understood within 0.2 seconds" in error(tmp_path, stored())


def test_arrays_beyond_all_memory(tmp_path) -> None:
    content = stored(mx.sym.tile(mx.sym.Variable("data"), reps=(1, 1, 100_000, 1000), name="large"))
    assert "needs more than 4 GB for large" in error(tmp_path, content)


def whole(name: str = "data") -> Any:
    return mx.sym.Cast(mx.sym.Variable(name), dtype="int32")


def choice() -> Any:
    flat = mx.sym.Flatten(mx.sym.Variable("data"))
    return mx.sym.where(flat, mx.sym.ones(shape=(1, 3)), mx.sym.zeros(shape=(1, 3)), name="choice")


def choice_for_one_image() -> Any:
    size = 3 * 300 * 300
    flat = mx.sym.Flatten(mx.sym.Variable("data"))
    return mx.sym.where(flat, mx.sym.ones(shape=(1, size)), mx.sym.zeros(shape=(1, size)), name="choice")


@pytest.mark.parametrize(
    ("symbol", "part"),
    [
        (lambda: mx.sym.elemwise_div(whole(), whole("w"), name="x"), "x (elemwise_div) divides whole numbers"),
        (lambda: mx.sym.broadcast_mod(whole(), whole("w"), name="x"), "x (broadcast_mod) divides whole numbers"),
        (lambda: mx.sym.mean(whole(), name="x"), "x (mean) divides whole numbers"),
        (lambda: whole() / 0.1, "(_div_scalar) divides whole numbers"),
        (choice, "choice (where) chooses between arrays of different shapes"),
        (choice_for_one_image, "choice (where) chooses between arrays of different shapes"),
        (lambda: mx.sym.relu(mx.sym.Variable("other")), "no input of the name data"),
    ],
)
def test_operators_that_end_the_process_when_they_compute(symbol, part, tmp_path) -> None:
    """By SIGFPE or SIGSEGV, some only with the values of some weights."""
    assert part in error(tmp_path, stored(symbol()))


@pytest.mark.parametrize("symbol", [
    lambda: mx.sym.Variable("data") / 2,
    lambda: mx.sym.where(mx.sym.Variable("data") > 0, mx.sym.Variable("data"), -mx.sym.Variable("data")),
    lambda: mx.sym.Deconvolution(mx.sym.Variable("data"), kernel=(2, 2), num_filter=4),
    lambda: mx.sym.LeakyReLU(mx.sym.Variable("data"), act_type="prelu"),
    lambda: mx.sym.UpSampling(mx.sym.Variable("data"), num_filter=3, scale=2, sample_type="bilinear", num_args=1),
    lambda: mx.sym.softmax(mx.sym.Variable("data")),
    lambda: mx.sym.SliceChannel(mx.sym.Variable("data"), num_outputs=3),
])  # fmt: skip
def test_the_same_operators_as_networks_have_them(symbol, tmp_path) -> None:
    path = tmp_path / "a-symbol.json"
    symbol().save(str(path))
    load_graph(path)


@pytest.mark.parametrize(("name", "operator"), [("both", "Concat"), ("conv", "Convolution"), ("bn", "BatchNorm")])
def test_operators_without_their_inputs(name, operator, tmp_path) -> None:
    content = stored()
    node(content, name)["inputs"].pop()
    assert re.search(rf"{name} \({operator}\) has \d inputs", error(tmp_path, content))


def test_bilinear_upsampling_of_no_filters(tmp_path) -> None:
    data = mx.sym.Variable("data")
    content = stored(mx.sym.UpSampling(data, num_filter=3, scale=2, sample_type="bilinear", num_args=1, name="up"))
    del node(content, "up")["attrs"]["num_filter"]
    assert "'up' is bilinear and has no num_filter" in error(tmp_path, content)


@pytest.mark.parametrize("axes", ["(0, 2, 3, 2)", "(0, 3, 3, 1)", "(0, 1, 2, 4)", "(-1, 0, 1, 2)"])
def test_axes_that_are_not_each_axis_once(axes, tmp_path) -> None:
    """MXNet takes an axis twice, and writes beyond the array."""
    content = stored(mx.sym.transpose(mx.sym.Variable("data"), axes=(0, 2, 3, 1), name="moved"))
    node(content, "moved")["attrs"]["axes"] = axes
    error(tmp_path, content)


def test_operators_of_other_networks_compute_an_image_first(tmp_path, monkeypatch) -> None:
    symbol = mx.sym.contrib.AdaptiveAvgPooling2D(mx.sym.Variable("data"), output_size=2, name="mine")
    path = tmp_path / "a-symbol.json"
    symbol.save(str(path))
    assert load_graph(path).list_outputs() == ["mine_output"]
    monkeypatch.setattr(graph_file, "_accepted", set())
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], -11, ""))
    with pytest.raises(UserError, match="ends the process that uses it .killed by SIGSEGV"):
        load_graph(path)


def test_a_graph_is_tried_once(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a-symbol.json"
    network().save(str(path))
    load_graph(path)
    monkeypatch.setattr(graph_file, "_try_out", lambda *_: pytest.fail("tried again"))
    load_graph(path)
    other = mx.sym.relu(mx.sym.Variable("data"))
    other.save(str(path))
    graph_file.accept(path.read_text())
    load_graph(path)


def test_what_mxnet_refuses_is_one_line() -> None:
    with pytest.raises(UserError, match="here: its graph is damaged") as caught, graph_errors("here"):
        mx.sym.Concat(mx.sym.Variable("a"), mx.sym.Variable("b")).infer_shape(a=(1, 2), b=(3, 4, 5))
    assert "\n" not in str(caught.value)
