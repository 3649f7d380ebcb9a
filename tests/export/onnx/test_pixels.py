"""Images of any size inside of ONNX files: the same levels and boxes as on arrays, to the last bit."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.config.parts import InputSpec
from ssd.data.transforms.preprocess import resize_only
from ssd.detection import Detector
from ssd.export.agreement import compare_whole, resized
from ssd.export.formats import FORMATS, Calibration
from ssd.export.onnx.builder import OPSET
from ssd.export.onnx.pixels import with_pixels
from ssd.mxnet_compat import mx

HEIGHT, WIDTH = 24, 32
MODES = [(mode, antialias) for mode in ("force", "fit") for antialias in (True, False)]


def spec_of(mode: str, antialias: bool) -> InputSpec:
    return InputSpec(HEIGHT, WIDTH, (123.4, 117.0, 300.0), (58.0, 57.0, 56.0), mode, antialias)


def session_of(spec: InputSpec) -> onnxruntime.InferenceSession:
    """A network that gives its input, and as `detection` what it is given as such."""
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    levels, rows = value("images", 1, ("batch", 3, HEIGHT, WIDTH)), value("detection", 1, ("batch", None, 6))
    nodes = [node("Identity", ["images"], ["seen"]), node("Identity", ["found"], ["detection"])]
    graph = onnx.helper.make_graph(nodes, "none", [levels, value("found", 1, ("batch", None, 6))], [rows])
    graph.output.append(value("seen", 1, ("batch", 3, HEIGHT, WIDTH)))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    whole = with_pixels(model, spec)
    whole.graph.input.append(value("found", 1, ("batch", None, 6)))
    onnx.checker.check_model(whole, full_check=True)
    return onnxruntime.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])


SESSIONS = {mode: session_of(spec_of(*mode)) for mode in MODES}
NOTHING = np.full((1, 1, 6), -1, np.float32)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def check_levels(mode: tuple[str, bool], image: np.ndarray) -> None:
    (seen,) = SESSIONS[mode].run(["seen"], {"image": image[None], "found": NOTHING})
    np.testing.assert_array_equal(seen, resize_only([image], spec_of(*mode)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "size",
    [
        (1, 1), (1, 300), (300, 1), (24, 32), (23, 31), (48, 64), (47, 64), (48, 63), (49, 67), (96, 128), (95, 128),
        (99, 131), (192, 256), (191, 256), (200, 300), (500, 50), (50, 900), (24, 3000),
    ],
)  # fmt: skip
def test_levels_of_sizes_where_something_changes(mode, size) -> None:
    check_levels(mode, noise(*size))


@settings(max_examples=60)
@given(mode=st.sampled_from(MODES), height=st.integers(1, 400), width=st.integers(1, 400), seed=st.integers(0, 9))
def test_levels_of_any_size(mode, height, width, seed) -> None:
    check_levels(mode, noise(height, width, seed))


def test_extreme_levels() -> None:
    """Where rounding has the least room."""
    for level in (0, 1, 254, 255):
        check_levels(("force", True), np.full((101, 77, 3), level, np.uint8))
    check_levels(("force", True), (np.indices((97, 131)).sum(axis=0)[..., None] % 2 * np.full(3, 255)).astype(np.uint8))


def test_images_of_one_size_are_a_batch() -> None:
    images = [noise(70, 90, seed) for seed in range(3)]
    found = np.repeat(NOTHING, 3, axis=0)
    (seen,) = SESSIONS["fit", True].run(["seen"], {"image": np.stack(images), "found": found})
    np.testing.assert_array_equal(seen, resize_only(images, spec_of("fit", True)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (24, 32), (48, 64), (103, 77), (333, 90), (90, 777)])
def test_boxes_go_back_as_the_detector_puts_them(mode, size) -> None:
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 1, (40, 2))
    rows = np.concatenate([rng.integers(0, 3, (40, 1)), -np.sort(-rng.random((40, 1)), axis=0), low,
                           low + rng.uniform(0, 0.4, low.shape)], axis=1)  # fmt: skip
    rows = rows.clip(0, [[2, 1, 1, 1, 1, 1]]).astype(np.float32)
    given_ = np.concatenate([rows, np.full((5, 6), -1, np.float32)])[None]
    (placed,) = SESSIONS[mode].run(["detection"], {"image": noise(*size)[None], "found": given_})
    detector = object.__new__(Detector)  # without a network
    detector.spec = type("Spec", (), {"input": spec_of(*mode)})
    (expected,) = detector.to_image_coords([rows], [noise(*size)])
    np.testing.assert_array_equal(placed[0][: len(expected)], expected)
    assert (placed[0][len(expected) :] == -1).all()
    assert mode[0] == "force" or size[0] * 32 == size[1] * 24 or len(expected) < len(rows)


@pytest.fixture(scope="module", params=["onnx", "onnx_int8"])
def written(request, random_model, images, tmp_path_factory):
    """A file for images of any size, one for the network's, and the model they were made of."""
    model = random_model("backbone=small", "data_shape=128", "resize_mode=fit")
    folder, form = tmp_path_factory.mktemp("onnx"), FORMATS[request.param]
    shown = Detector(model, mx.cpu(), 1).preprocess(images)
    paths = folder / "any.onnx", folder / "fixed.onnx"
    for path, write in zip(paths, (form.write, form.fixed), strict=True):
        write(model, path, Calibration(lambda: [shown], "minmax"))
    return *paths, model


def test_a_whole_file_answers_as_the_detectors(written, images) -> None:
    path, fixed, _ = written
    frames = [*images, *resized(images, Detector.load(str(path)).spec.input)]
    assert {(image.shape[0] >= 1024, image.shape[0] == 1) for image in frames} == {(0, 0), (1, 0), (0, 1)}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    detectors = [Detector.load(str(file)) for file in (path, fixed)]
    for image in frames:
        rows = session.run(["detection"], {"image": image[None]})[0][0]
        rows = rows[rows[:, 0] >= 0]
        for detector in detectors:
            (expected,) = detector.predict([image])
            assert len(rows) == len(expected)
            np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-3)
    assert compare_whole(path, detectors[0], frames) is None
    assert compare_whole(fixed, detectors[1], frames) is None


def test_a_file_that_resizes_otherwise_is_found_out(written, images, tmp_path: Path) -> None:
    path, _, _ = written
    model = onnx.load(str(path))
    step = next(node for node in model.graph.node if "pixels_averaged" in node.output)
    step.op_type = "Floor"
    onnx.save(model, str(tmp_path / "other.onnx"))
    detector = Detector.load(str(tmp_path / "other.onnx"))
    assert "differ from those" in str(
        compare_whole(tmp_path / "other.onnx", detector, [cv2.resize(images[0], (700, 700))])
    )


def test_what_the_file_says_of_its_preprocessing(written) -> None:
    path, fixed, model = written
    whole, before = (
        {entry.key: json.loads(entry.value) for entry in onnx.load(str(file)).metadata_props} for file in (path, fixed)
    )
    assert whole["preprocessing"][0].startswith("image: uint8 [B, height, width, 3], any size, RGB")
    assert "pixels of the image" in whole["boxes"]
    assert "before the file is run" in before["preprocessing"][0]
    assert "shares 0..1 of the input" in before["boxes"]
    steps = " ".join(before["preprocessing"])
    for part in (
        "8, 4, 2",
        "INTER_AREA",
        "INTER_LINEAR",
        "min(128 / width",
        str(list(model.spec.input.border)),
        "mean",
    ):
        assert part in steps, part
    assert whole["input"]["antialias"] is True
