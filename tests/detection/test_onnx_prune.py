"""Files cut down to what some of their outputs need."""

import numpy as np
import onnx
import onnxruntime
import pytest

from ssd.detection.onnx_prune import between
from ssd.export.formats import FORMATS
from ssd.utils.protobuf import WireError


@pytest.fixture(scope="module")
def content(random_model, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("onnx") / "ssd.onnx"
    FORMATS["onnx"].fixed(random_model("backbone=small", "data_shape=128"), path, None)
    return path.read_bytes()


def cut(content: bytes, names: list[str]) -> bytes:
    return b"".join(between(memoryview(content), ["images"], names))


def answers(content: bytes, names: list[str]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    data = np.random.default_rng(0).uniform(0, 255, (2, 3, 128, 128)).astype(np.float32)
    return session.run(names, {"images": data})


@pytest.mark.parametrize("names", [["cls_prob", "boxes"], ["detection"], ["boxes"]])
def test_the_rest_answers_as_before(content: bytes, names: list[str]) -> None:
    part = cut(content, names)
    model = onnx.load_from_string(part)
    onnx.checker.check_model(model)
    assert sorted(output.name for output in model.graph.output) == sorted(names)
    for ours, theirs in zip(answers(part, names), answers(content, names), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_suppression_is_gone(content: bytes) -> None:
    def operators(content: bytes) -> set[str]:
        return {node.op_type for node in onnx.load_from_string(content).graph.node}

    assert operators(content) - operators(cut(content, ["cls_prob", "boxes"])) >= {
        "NonMaxSuppression", "TopK",
    }  # fmt: skip
    metadata = onnx.load_from_string(cut(content, ["boxes"])).metadata_props
    assert metadata == onnx.load_from_string(content).metadata_props


def test_a_body_may_need_anything(content: bytes) -> None:
    model = onnx.load_from_string(content)
    condition = onnx.helper.make_node("If", ["yes"], ["unused"])
    model.graph.node.append(condition)
    part = onnx.load_from_string(cut(model.SerializeToString(), ["boxes"]))
    assert len(part.graph.node) == len(model.graph.node)


def test_damage_is_told(content: bytes) -> None:
    with pytest.raises(WireError):
        cut(content[:-1000], ["boxes"])
