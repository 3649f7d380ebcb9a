"""What a checkpoint says of itself."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from ssd.checkpoint.model import SPEC_ATTRIBUTE, ModelSpec, attach_spec, load_params, spec_of
from ssd.config.compose import compose
from ssd.mxnet_compat import mx
from ssd.symbol import build_train
from ssd.utils.errors import UserError


def test_the_numbers_of_the_dataset_travel_with_the_model():
    cfg = compose([])
    symbol = build_train(cfg, 3)
    spec = ModelSpec.from_config(cfg, ("person", "motorbike", "sofa"), (1, 4, 63))
    assert spec_of(attach_spec(symbol, spec), Path("x")) == spec
    assert spec.category_ids == [1, 4, 63]
    assert ModelSpec.from_config(cfg, ("a",)).category_ids is None


def test_models_from_before_have_none():
    cfg = compose([])
    symbol = attach_spec(build_train(cfg, 3), ModelSpec.from_config(cfg, ("a", "b", "c")))
    node = json.loads(symbol.attr_dict()["data"][SPEC_ATTRIBUTE])
    del node["category_ids"]
    symbol.get_internals()["data"]._set_attr(**{SPEC_ATTRIBUTE: json.dumps(node)})
    assert spec_of(symbol, Path("x")).category_ids is None
    symbol.get_internals()["data"]._set_attr(**{SPEC_ATTRIBUTE: "[]"})
    with pytest.raises(UserError, match="its model description cannot be read"):
        spec_of(symbol, Path("x"))


@pytest.fixture(scope="module")
def sound() -> str:
    return json.dumps(asdict(ModelSpec.from_config(compose([]), ("a", "b", "c"))))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"std": [0, 0, 0]}, "std: .* must be above 0"),
        ({"std": [1, -1, 1]}, "std: .* must be above 0"),
        ({"mean": [1, float("nan"), 1]}, "mean: .* finite"),
        ({"mean": [1, 1]}, "mean: .* 3 finite"),
        ({"mean": "abc"}, "mean: abc"),
        ({"variances": [0.1, 0.1, float("inf"), 0.2]}, "variances"),
        ({"variances": [0, 0, 0, 0]}, "variances: .* above 0"),
        ({"compat": "zzz"}, "compat or resize_mode"),
        ({"compat": []}, "compat or resize_mode"),
        ({"resize_mode": "zzz"}, "compat or resize_mode"),
        ({"channel_order": "BGR"}, "'BGR' instead of RGB"),
        ({"classes": "abc"}, "classes is no list"),
        ({"classes": [1, 2, 3]}, "not all text"),
        ({"classes": []}, "0 classes"),
        ({"classes": ["a", "", "b"]}, "has no name"),
        ({"classes": ["a", "a", "b"]}, "not all different"),
        ({"backbone": 3}, "not all text"),
        ({"height": 1_000_000}, "height: an input side"),
        ({"width": 64.0}, "width: an input side"),
        ({"width": True}, "width: an input side"),
        ({"antialias": "yes"}, "antialias"),
        ({"category_ids": [1]}, "category_ids"),
        ({"category_ids": "abc"}, "category_ids"),
        ({"detection": {"nms": 0.5}}, "score"),
        ({"detection": 3}, "not a mapping"),
        ({"detection.nms": float("nan")}, "detection.nms_threshold=nan"),
        ({"detection.sigma": float("nan")}, "detection"),
        ({"detection.topk": 1.5}, "no whole number"),
        ({"detection.flip": "no"}, "detection.flip"),
        ({"detection.keep": "many"}, "not supported"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_descriptions_that_make_no_sense(change, part, sound) -> None:
    spec = json.loads(sound)
    for key, value in change.items():
        group, _, name = key.partition(".")
        if name:
            spec[group][name] = value
        else:
            spec[group] = value
    symbol = graph()
    symbol.get_internals()["data"]._set_attr(**{SPEC_ATTRIBUTE: json.dumps(spec)})
    with pytest.raises(UserError, match=f"x: its model description cannot be read .*{part}") as caught:
        spec_of(symbol, Path("x"))
    assert "\n" not in str(caught.value)


def test_classifiers_have_no_thresholds(sound) -> None:
    symbol = graph()
    symbol.get_internals()["data"]._set_attr(**{SPEC_ATTRIBUTE: json.dumps(json.loads(sound) | {"detection": {}})})
    assert "score" not in spec_of(symbol, Path("x")).detection


def graph() -> mx.sym.Symbol:
    return mx.sym.relu(mx.sym.Variable("data"))


def test_the_input_travels_with_the_graph() -> None:
    spec = ModelSpec.from_config(compose(["resize_mode=fit", "data_shape=[64,96]"]), ["cat"])
    back = spec_of(mx.sym.load_json(attach_spec(graph(), spec).tojson()), Path("x"))
    assert back == spec
    assert (back.input.height, back.input.width, back.input.resize_mode, back.input.antialias) == (64, 96, "fit", True)


def test_checkpoints_from_before_there_was_a_choice_are_stretched() -> None:
    symbol = attach_spec(graph(), ModelSpec.from_config(compose([]), ["cat"]))
    old = json.loads(symbol.attr_dict()["data"][SPEC_ATTRIBUTE])
    del old["resize_mode"]
    symbol.get_internals()["data"]._set_attr(**{SPEC_ATTRIBUTE: json.dumps(old)})
    spec = spec_of(symbol, Path("x"))
    assert spec.resize_mode == "force"
    assert asdict(spec).keys() == old.keys() | {"resize_mode"}


@pytest.mark.parametrize("compat", [None, "mxnet_ssd"])
def test_checkpoints_that_do_not_name_their_averages_keep_what_inference_did(compat) -> None:
    symbol = attach_spec(
        graph(), ModelSpec.from_config(compose([f"compat={compat or 'null'}", "loader=record"]), ["cat"])
    )
    old = json.loads(symbol.attr_dict()["data"][SPEC_ATTRIBUTE])
    assert old.pop("antialias") is False
    symbol.get_internals()["data"]._set_attr(**{SPEC_ATTRIBUTE: json.dumps(old)})
    assert spec_of(symbol, Path("x")).input.antialias == (compat is None)


def test_weights_are_floating_numbers(tmp_path) -> None:
    """Operators that divide whole numbers by zero end the process."""
    path = tmp_path / "a-0001.params"
    mx.nd.save(str(path), {"arg:a": mx.nd.ones((2,)), "arg:b": mx.nd.ones((2,), dtype="int8")})
    with pytest.raises(UserError, match="a-0001.params: 'arg:b' holds int8, weights are floating numbers"):
        load_params(path)
    mx.nd.save(str(path), {"arg:a": mx.nd.ones((2,)), "aux:b": mx.nd.ones((2,), dtype="float16")})
    assert [list(part) for part in load_params(path)] == [["a"], ["b"]]
