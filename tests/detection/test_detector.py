"""The detector: the same boxes whatever the batch and the thread, and after its parameters changed."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssd.checkpoint.model import (
    SPEC_ATTRIBUTE,
    Model,
    ModelSpec,
    attach_spec,
    find_params,
    load_model,
    load_params,
    spec_of,
)
from ssd.config.compose import compose
from ssd.detection import Detector
from ssd.detection.open_model import open_model
from ssd.export.formats import FORMATS, Calibration
from ssd.mxnet_compat import mx
from ssd.symbol import build_test, build_train
from ssd.utils.errors import UserError

CLASSES = ["circle", "rectangle", "triangle"]
Made = Callable[..., Model]


@pytest.fixture(scope="module")
def made(random_weights: Callable[..., Any]) -> Made:
    """made(seed, word…): an untrained network with random weights."""

    def make(seed: int, *words: str) -> Model:
        cfg = compose([*words])
        spec = ModelSpec.from_config(cfg, CLASSES)
        graph = attach_spec(build_train(cfg, len(CLASSES)), spec)
        return Model(spec, graph, *random_weights(graph, spec.height, seed))

    return make


def images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.mark.parametrize("compat", ["null", "mxnet_ssd"])
def test_batches_of_any_size_give_the_same_boxes(made: Made, compat: str, same_detections: Callable[..., None]) -> None:
    detector = Detector(made(0, f"compat={compat}"), mx.cpu(), batch_size=4)
    arrays = images((100, 150), (128, 128), (60, 40), (300, 200), (128, 64))
    together = detector.predict(arrays)
    for array, expected in zip(arrays, together, strict=True):
        (alone,) = detector.predict([array])
        same_detections(alone, expected)
        height, width = array.shape[:2]
        assert (expected[:, 2:] >= 0).all()
        assert (expected[:, [2, 4]] <= width).all()
        assert (expected[:, [3, 5]] <= height).all()
        assert (np.diff(expected[:, 1]) <= 0).all()
    assert detector.predict([]) == []


@pytest.mark.parametrize("kind", ["checkpoint", "bundle", "onnx", "int8"])
def test_threads_share_a_detector(made: Made, kind: str, tmp_path: Path, same_detections: Callable[..., None]) -> None:
    model = made(0)
    if kind != "checkpoint":
        form = FORMATS["mxnet" if kind == "bundle" else kind]
        calibration = Calibration(lambda: [Detector(made(0), mx.cpu(), 1).preprocess(images((99, 99)))], "minmax")
        form.write(model, tmp_path / form.name, calibration)
        detector = Detector(open_model(tmp_path / form.name), mx.cpu(), batch_size=2)
    else:
        detector = Detector(model, mx.cpu(), batch_size=2)
    detector.warm_up()
    arrays = images(*((60 + 7 * number, 90) for number in range(24)))
    serial = [detector.predict([array])[0] for array in arrays]
    with ThreadPoolExecutor(8) as pool:
        # Batches of one and of two at the same time.
        pairs = list(pool.map(detector.predict, [arrays[n : n + 2] for n in range(0, 24, 2)]))
        single = list(pool.map(lambda array: detector.predict([array])[0], arrays))
    for rows, alone, expected in zip(sum(pairs, []), single, serial, strict=True):
        same_detections(rows, expected)
        same_detections(alone, expected)


def test_parameters_may_change_while_others_predict(made: Made) -> None:
    """Every answer is that of the first parameters or of the second, never of a mixture."""
    models = [made(0), made(1)]
    detector = Detector(models[0], mx.cpu(), batch_size=1)
    array = images((64, 64))
    answers = [Detector(model, mx.cpu(), 1).predict(array)[0] for model in models]
    with ThreadPoolExecutor(4) as pool:
        waiting = []
        for turn in range(6):
            waiting += [pool.submit(detector.predict, array) for _ in range(4)]
            detector.set_params(models[turn % 2].arg_params, models[turn % 2].aux_params)
        for future in waiting:
            (rows,) = future.result()
            assert any(rows.shape == other.shape and np.allclose(rows, other, atol=1e-2) for other in answers)


def test_new_parameters_count_from_the_next_prediction(made: Made) -> None:
    """oneDNN keeps reordered weights of a bound executor: a detector once went on with those of the first epoch."""
    first, second = made(0), made(1)
    detector = Detector(first, mx.cpu(), batch_size=2)
    arrays = images((128, 128), (90, 90), (64, 64))
    before = detector.predict(arrays)
    detector.set_params(second.arg_params, second.aux_params)
    fresh = Detector(second, mx.cpu(), batch_size=2).predict(arrays)
    for ours, theirs, old in zip(detector.predict(arrays), fresh, before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert not np.array_equal(ours, old)


def saved(model: Model, folder: Path) -> Path:
    model.symbol.save(str(folder / "ssd-symbol.json"))
    arrays = {f"arg:{name}": array for name, array in model.arg_params.items()}
    arrays |= {f"aux:{name}": array for name, array in model.aux_params.items()}
    mx.nd.save(str(folder / "ssd-0003.params"), arrays)
    return folder / "ssd-0003.params"


def test_a_checkpoint_is_complete_in_its_two_files(made: Made, tmp_path: Path) -> None:
    model = made(0)
    file = saved(model, tmp_path)
    loaded = load_model(file)
    assert loaded.spec == model.spec
    arrays = images((100, 120))
    expected = Detector(model, mx.cpu(), 1).predict(arrays)
    np.testing.assert_array_equal(Detector.load(str(file)).predict(arrays)[0], expected[0])


def test_a_checkpoint_in_test_form_is_used_as_it_is(made: Made, tmp_path: Path) -> None:
    model = made(0)
    graph = attach_spec(build_test(compose([]), len(CLASSES)), model.spec)
    file = saved(Model(model.spec, graph, model.arg_params, model.aux_params), tmp_path)
    arrays = images((100, 120))
    expected = Detector(model, mx.cpu(), 1).predict(arrays)
    np.testing.assert_array_equal(Detector.load(str(file)).predict(arrays)[0], expected[0])


def test_damaged_checkpoints_are_told_apart(made: Made, tmp_path: Path) -> None:
    model = made(0)
    file = saved(model, tmp_path)
    whole, graph = file.read_bytes(), (tmp_path / "ssd-symbol.json").read_text()

    def error() -> str:
        with pytest.raises(UserError) as caught:
            Detector.load(str(file))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for size in (0, 3, 8, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert "cut short" in error()
    file.write_bytes(b"\0" * len(whole))
    assert "ssd-0003.params" in error()
    file.write_bytes(whole)
    (tmp_path / "ssd-symbol.json").write_text(graph[: len(graph) // 2])
    assert "not an MXNet symbol" in error()
    (tmp_path / "ssd-symbol.json").write_text(graph.replace(SPEC_ATTRIBUTE, "__other__"))
    assert "says nothing of its classes" in error()
    (tmp_path / "ssd-symbol.json").unlink()
    assert "missing" in error()


def test_parameters_of_another_class_count_do_not_fit(made: Made) -> None:
    model = made(0)
    graph = build_train(compose([]), 5)
    with pytest.raises(UserError, match="stage3_2_relu_cls_pred_conv_weight has shape .* its graph needs"):
        Detector(Model(model.spec, graph, model.arg_params, model.aux_params), mx.cpu(), 1)


def test_a_graph_that_describes_itself_wrongly(made: Made, tmp_path: Path) -> None:
    graph = made(0).symbol
    for text in ("{", "[]", json.dumps({"classes": []})):
        graph.get_internals()["data"]._set_attr(**{SPEC_ATTRIBUTE: text})
        with pytest.raises(UserError, match="description cannot be read"):
            spec_of(graph, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.params", b"x", "prefix-0012.params"),
        ("nowhere", None, "does not exist"),
        ("folder", "dir", "no checkpoints.json"),
        ("damaged", "index", "damaged"),
        ("outside", "outside", "outside of its folder"),
    ],
)
def test_what_is_no_model(name: str, content: bytes | str | None, part: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
        if content == "index":
            (path / "checkpoints.json").write_text('{"best": {}}')
        if content == "outside":
            entry = {"params": "../x-0001.params"}
            (path / "checkpoints.json").write_text(json.dumps({"best": entry, "last": entry}))
    with pytest.raises(UserError, match=part):
        find_params(path)


def test_files_that_hold_other_arrays(tmp_path: Path) -> None:
    file = tmp_path / "x-0001.params"
    mx.nd.save(str(file), {"weight": mx.nd.ones(1)})
    with pytest.raises(UserError, match="neither an arg: nor an aux:"):
        load_params(file)
    mx.nd.save(str(file), [mx.nd.ones(1)])
    with pytest.raises(UserError, match="no named parameters"):
        load_params(file)
