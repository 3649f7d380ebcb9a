"""A train graph that computes in 16 bits what gains by it. Parameters, their gradients and the losses stay float32."""

import json
from collections.abc import Iterator
from typing import Any

from ssd.mxnet_compat import mx

FULL = "float32"
# What lies between convolutions and has 16-bit kernels, forward and backward. Not BatchNorm: oneDNN 2.4 has no fast
# bfloat16 gradient for the memory layouts that convolutions leave, MobileNet takes four times as long with it.
FOLLOWERS = frozenset({"Activation", "Concat", "Pooling", "elemwise_add"})


def lowered(symbol: Any, dtype: str, shape: tuple[int, int]) -> Any:
    """The graph with convolutions in `dtype`, bfloat16 or float16, and what follows on them as far as it can.

    Names, arguments and outputs are those of `symbol`; all of them are float32. shape: height, width of its `data`.
    """
    return _Lowering(symbol, dtype, shape).result()


class _Lowering:
    """Copies the nodes of a graph in their order, casts in between."""

    def __init__(self, symbol: Any, dtype: str, shape: tuple[int, int]) -> None:
        self._dtype = dtype
        self._graph = json.loads(symbol.tojson())
        self._single = set(_single_cells(symbol, shape))
        self._nodes: list[dict[str, Any]] = []
        self._places: list[int] = []  # of the old nodes among the new ones
        self._low: list[bool] = []  # whether an old node computes in 16 bits
        self._casts: dict[tuple[int, int], int] = {}  # of an output of a new node into the other type

    def result(self) -> Any:
        for node in self._graph["nodes"]:
            low = self._gains(node)
            node["inputs"] = [self._as(low, *source[:2]) for source in node["inputs"]]
            self._places.append(self._append(node))
            self._low.append(low)
        heads = [self._as(False, *source[:2]) for source in self._graph["heads"]]
        arguments = [place for place, node in enumerate(self._nodes) if node["op"] == "null"]
        return mx.sym.load_json(
            json.dumps({"nodes": self._nodes, "arg_nodes": arguments, "heads": heads, "attrs": self._graph["attrs"]})
        )

    def _gains(self, node: dict[str, Any]) -> bool:
        if node["op"] == "Convolution":
            return node["name"] not in self._single
        if node["op"] not in FOLLOWERS or (node["op"] == "Activation" and node["attrs"]["act_type"] != "relu"):
            return False
        return any(self._low[source] for source, *_ in node["inputs"])

    def _as(self, low: bool, source: int, output: int) -> list[int]:
        """An output of an old node in the type that is wanted, as an input of a new one."""
        place = self._places[source]
        if self._low[source] == low:
            return [place, output, 0]
        if (place, output) not in self._casts:
            self._casts[place, output] = self._cast(place, output, self._dtype if low else FULL)
        return [self._casts[place, output], 0, 0]

    def _cast(self, place: int, output: int, dtype: str) -> int:
        node = self._nodes[place]
        name = f"{node['name']}_{output}"
        if node["op"] == "null":
            # A cast does not say what it casts from, and its gradient forgets to add itself to what is there: where
            # gradients add up over passes, that of a copy does it.
            node.setdefault("attrs", {})["__dtype__"] = "0"
            place, output = self._append({"op": "_copy", "name": f"{name}_copy", "inputs": [[place, output, 0]]}), 0
        return self._append(
            {"op": "amp_cast", "name": f"{name}_{dtype}", "attrs": {"dtype": dtype}, "inputs": [[place, output, 0]]}
        )

    def _append(self, node: dict[str, Any]) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1


def _single_cells(symbol: Any, shape: tuple[int, int]) -> Iterator[str]:
    """Convolutions wider than 1x1 onto maps one cell wide or high: on a single cell, oneDNN 2.4's bfloat16 gradient of
    their weights has elements that nobody has written."""
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape(data=(1, 3, *shape), label=(1, 1, 6))
    by_name = dict(zip(internals.list_outputs(), shapes, strict=True))
    for node in json.loads(symbol.tojson())["nodes"]:
        wide = node["op"] == "Convolution" and node["attrs"]["kernel"] != "(1, 1)"
        if wide and min(by_name[f"{node['name']}_output"][2:]) == 1:
            yield node["name"]
