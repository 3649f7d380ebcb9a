"""ONNX files: what they say of themselves, and damage."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from ssd.detection import Detector
from ssd.detection.open_model import open_model
from ssd.export.formats import FORMATS
from ssd.utils.errors import UserError


@pytest.fixture(scope="module")
def file(random_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "ssd.onnx"
    FORMATS["onnx"].write(random_model("backbone=small", "data_shape=128"), path, None)
    return path


@pytest.fixture(scope="module")
def fixed(random_model, tmp_path_factory) -> Path:
    """The same for an input of the network's size."""
    path = tmp_path_factory.mktemp("onnx") / "fixed.onnx"
    FORMATS["onnx"].fixed(random_model("backbone=small", "data_shape=128"), path, None)
    return path


def error(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        Detector.load(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_it_is_complete(random_model, file: Path, fixed: Path) -> None:
    for path in (file, fixed):
        assert open_model(path).spec == random_model("backbone=small", "data_shape=128").spec
    assert (open_model(file).any_size, open_model(fixed).any_size) == (True, False)


def test_onnxruntime_alone_runs_it(fixed: Path, images) -> None:
    session = onnxruntime.InferenceSession(str(fixed), providers=["CPUExecutionProvider"])
    detector = Detector.load(str(fixed), batch_size=3)
    levels = detector.preprocess(images)
    assert levels.max() > 200  # of 255: not normalized
    (rows,) = session.run(["detection"], {"images": levels})
    assert rows.shape == (3, 200, 6)
    for found, expected in zip(rows, detector.predict_batch(levels), strict=True):
        np.testing.assert_allclose(found[: len(expected)], expected, atol=1e-6)


def test_truncated_files_are_told(file: Path, tmp_path: Path) -> None:
    whole, cut = file.read_bytes(), tmp_path / "cut.onnx"
    for size in (0, 1, 100, 5000, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:size])
        error(cut)
    assert "does not exist" in error(tmp_path / "none.onnx")


def test_fuzzed_files_are_told_or_run(file: Path, tmp_path: Path) -> None:
    """Bits of weights may flip unnoticed; nothing else but a UserError may come out."""
    whole, fuzzed = file.read_bytes(), tmp_path / "fuzzed.onnx"
    rng = np.random.default_rng(0)
    message = 0
    for _ in range(40):
        content = bytearray(whole)
        # Of the file the weights are nearly all: what surrounds them is at its ends.
        for place in rng.integers(0, 3000, 5):
            content[place if rng.random() < 0.5 else len(content) - 1 - place] = rng.integers(256)
        fuzzed.write_bytes(content)
        try:
            Detector.load(str(fuzzed))
        except UserError:
            message += 1
    assert message > 20


@pytest.mark.parametrize("kind", ["file", "fixed"])
def test_others_files_are_told(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    def changed(change) -> str:
        model = onnx.load(str(request.getfixturevalue(kind)))
        change(model)
        onnx.save(model, str(tmp_path / "changed.onnx"))
        return error(tmp_path / "changed.onnx")

    def replace(key: str, value: str):
        def change(model) -> None:
            next(entry for entry in model.metadata_props if entry.key == key).value = value

        return change

    def without_output(model) -> None:
        del model.graph.output[1]

    assert "says nothing of its classes" in changed(lambda model: model.ClearField("metadata_props"))
    assert "damaged" in changed(replace("classes", "[1"))
    assert "damaged" in changed(replace("input", "[" * 100_000))

    def of_floats(model) -> None:
        model.graph.input[0].name = "pixels"
        for node in model.graph.node:
            node.input[:] = ["pixels" if name in ("image", "images") else name for name in node.input]

    if kind == "file":
        assert "cannot be opened" in changed(lambda model: model.graph.ClearField("value_info"))
    else:
        assert "as it describes itself" in changed(of_floats)
        other = {"height": 64, "width": 128, "channel_order": "RGB", "mean": [1, 2, 3], "std": [1, 1, 1],
                 "resize_mode": "force"}  # fmt: skip
        assert "as it describes itself" in changed(replace("input", json.dumps(other)))
    assert "has no output cls_prob" in changed(without_output)
    assert "3 classes" in changed(replace("classes", '["a", "b", "c"]'))


def test_without_the_packages_they_are_named(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'ssd[onnx]'" in error(file)
    monkeypatch.setitem(sys.modules, "ssd.export.onnx.export", None)
    monkeypatch.delattr("ssd.export.onnx.export", raising=False)
    with pytest.raises(UserError, match=r"need the package onnx .* pip install 'ssd\[onnx\]'"):
        FORMATS["onnx"].write(None, tmp_path / "x.onnx", None)
