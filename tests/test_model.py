"""What a graph says of its input."""

import json
from dataclasses import asdict
from pathlib import Path

from ssd.config import compose
from ssd.engine import mx
from ssd.model import SPEC_ATTRIBUTE, ModelSpec, spec_of, stamp


def graph() -> mx.sym.Symbol:
    return mx.sym.relu(mx.sym.Variable("data"))


def test_the_input_travels_with_the_graph() -> None:
    spec = ModelSpec.from_config(compose(["resize_mode=fit", "data_shape=[64,96]"]), ["cat"])
    back = spec_of(mx.sym.load_json(stamp(graph(), spec).tojson()), Path("x"))
    assert back == spec
    assert (back.input.height, back.input.width, back.input.resize_mode, back.input.antialias) == (64, 96, "fit", True)


def test_checkpoints_from_before_there_was_a_choice_are_stretched() -> None:
    symbol = stamp(graph(), ModelSpec.from_config(compose(["compat=mxnet_ssd"]), ["cat"]))
    old = json.loads(symbol.attr_dict()["data"][SPEC_ATTRIBUTE])
    del old["resize_mode"]
    symbol.get_internals()["data"]._set_attr(**{SPEC_ATTRIBUTE: json.dumps(old)})
    spec = spec_of(symbol, Path("x"))
    assert spec.resize_mode == "force"
    assert not spec.input.antialias
    assert asdict(spec).keys() == old.keys() | {"resize_mode"}
