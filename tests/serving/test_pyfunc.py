"""A detector as an MLflow model: loaded here, in a process without this package, and behind MLflow's own server."""

import ast
import base64
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import mlflow.pyfunc
import numpy as np
import pytest
from mlflow.models import Model

from ssd.detection import Detector
from ssd.serving import pyfunc
from ssd.serving.pyfunc import ImageError, requirements, save

SERVING = {"threshold": 0.0, "request_pixels": 1_000_000}


@pytest.fixture(scope="module")
def saved(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pyfunc") / "model"
    save(folder, checkpoint, SERVING, "run", "m-1")  # all that the detector finds
    return folder


@pytest.fixture(scope="module")
def detector(checkpoint: Path) -> Detector:
    return Detector.load(str(checkpoint), batch_size=1)


def pngs(count: int) -> list[bytes]:
    rng = np.random.default_rng(2)
    sizes = [(60 + 7 * number, 90, 3) for number in range(count)]
    return [cv2.imencode(".png", rng.integers(0, 256, size, dtype=np.uint8))[1].tobytes() for size in sizes]


def decoded(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def assert_same(answer: dict[str, Any], image: np.ndarray, detector: Detector) -> None:
    """The answer has exactly the boxes that the detector finds."""
    expected = detector.predict([image])[0]
    assert (answer["width"], answer["height"]) == (image.shape[1], image.shape[0])
    found = answer["detections"]
    assert len(found) == len(expected) > 3
    assert [one["class"] for one in found] == expected[:, 0].astype(int).tolist()
    assert [one["name"] for one in found] == [detector.classes[int(row[0])] for row in expected]
    np.testing.assert_allclose([one["score"] for one in found], expected[:, 1], atol=1e-5)
    np.testing.assert_allclose([one["box"] for one in found], expected[:, 2:], atol=0.0101)


def test_bytes_base64_and_arrays_give_the_boxes_of_the_detector(saved: Path, detector: Detector) -> None:
    model = mlflow.pyfunc.load_model(str(saved))
    files = pngs(2)
    arrays = [decoded(data) for data in files]
    answers = model.predict(files)
    json.dumps(answers)
    for answer, image in zip(answers, arrays, strict=True):
        assert_same(answer, image, detector)
    texts = [base64.b64encode(data).decode() for data in files]
    assert model.predict(texts) == model.predict(arrays) == answers
    assert model.predict(arrays[0]) == model.predict(files[0]) == answers[:1]


def test_threshold_leaves_out_low_scores(saved: Path) -> None:
    model = mlflow.pyfunc.load_model(str(saved))
    (everything,) = model.predict(pngs(1))
    middle = everything["detections"][len(everything["detections"]) // 2]["score"]
    (some,) = model.predict(pngs(1), params={"threshold": middle})
    assert 0 < len(some["detections"]) < len(everything["detections"])
    assert min(one["score"] for one in some["detections"]) >= middle - 1e-6


def test_a_score_that_was_copied_keeps_its_detection(saved: Path) -> None:
    model = mlflow.pyfunc.load_model(str(saved))
    for index, one in enumerate(model.predict(pngs(1))[0]["detections"][:20]):
        (some,) = model.predict(pngs(1), params={"threshold": one["score"]})
        assert len(some["detections"]) > index


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"treshold": 0.3}, "there is no parameter 'treshold', did you mean 'threshold'? (known: threshold)"),
        ({"threshold": 0.3, "nms": 0.1}, "there is no parameter 'nms' (known: threshold)"),
        ({"threshold": 1.5}, "parameter threshold: 1.5 is not a score, expected a number from 0 to 1"),
        ({"threshold": float("nan")}, "parameter threshold: nan is not a score, expected a number from 0 to 1"),
        ({"threshold": float("inf")}, "parameter threshold: inf is not a score, expected a number from 0 to 1"),
        ({"threshold": None}, "parameter threshold: None is not a score, expected a number from 0 to 1"),
        ({"threshold": True}, "parameter threshold: True is not a score, expected a number from 0 to 1"),
        ({"threshold": "0.5"}, "parameter threshold: '0.5' is not a score, expected a number from 0 to 1"),
        ({"threshold": [0.5]}, "parameter threshold: [0.5] is not a score, expected a number from 0 to 1"),
        (
            {"threshold": 10**5000},
            "parameter threshold: an integer of more than 20 digits is not a score, expected a number from 0 to 1",
        ),
        (["threshold"], "params is a list, expected {'threshold': 0.5}"),
    ],
)
def test_parameters_that_make_no_sense(saved: Path, params: dict[str, Any], message: str) -> None:
    model = mlflow.pyfunc.load_model(str(saved))
    for predict in (model.predict, pyfunc._load_pyfunc(str(saved / "data" / "checkpoint")).predict):
        with pytest.raises(ImageError) as caught:
            predict(pngs(1), params=params)
        assert json.loads(caught.value.serialize_as_json())["message"] == message


def test_too_many_pixels_in_one_request_are_refused_before_any_is_decoded(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mlflow.pyfunc.load_model(str(saved))
    _, png = cv2.imencode(".png", np.zeros((1000, 500, 3), np.uint8))
    assert len(model.predict([png.tobytes()] * 2)) == 2
    text = base64.b64encode(png.tobytes()).decode()
    monkeypatch.setattr("ssd.serving.requests.decode", None)
    for third in (png.tobytes(), text, np.zeros((1, 1, 3), np.uint8), [[[0, 0, 0]]]):
        with pytest.raises(ImageError) as caught:
            model.predict([png.tobytes(), text, third])
        assert json.loads(caught.value.serialize_as_json())["message"].startswith("3 images have 1")
    assert "at most 1 million are looked at (deploy.request_pixels)" in str(caught.value)


def test_the_default_threshold_is_logged_with_the_model(checkpoint: Path, saved: Path, tmp_path: Path) -> None:
    scores = [one["score"] for one in mlflow.pyfunc.load_model(str(saved)).predict(pngs(1))[0]["detections"]]
    middle = scores[len(scores) // 2]
    save(tmp_path / "model", checkpoint, {**SERVING, "threshold": middle})
    assert Model.load(str(tmp_path / "model")).signature.params.params[0].default == middle

    def least(params: dict[str, float] | None = None, **options: Any) -> float:
        found = mlflow.pyfunc.load_model(str(tmp_path / "model"), **options).predict(pngs(1), params=params)
        return min(one["score"] for one in found[0]["detections"])

    assert least() == middle
    assert least({"threshold": 0.0}) == scores[-1]
    assert least(model_config={"threshold": scores[2]}) == scores[2]
    assert least({"threshold": 0.0}, model_config={"threshold": scores[2]}) == scores[-1]


def test_other_models_of_the_process_are_served_as_before(saved: Path) -> None:
    from mlflow.models.utils import _enforce_params_schema
    from mlflow.types import DataType, ParamSchema, ParamSpec

    mlflow.pyfunc.load_model(str(saved))
    for names in (["threshold", "other"], ["other"]):
        schema = ParamSchema([ParamSpec(name, DataType.double, 0.5) for name in names])
        given = {"treshold": 1.0}
        assert mlflow.pyfunc._enforce_params_schema(given, schema) == _enforce_params_schema(given, schema)


@pytest.mark.parametrize(
    "kind", ["application/vnd.apache.parquet", "text/csv", "APPLICATION/VND.APACHE.PARQUET; a=b", None]
)
def test_only_json_is_decoded(saved: Path, monkeypatch: pytest.MonkeyPatch, kind: str | None) -> None:
    from mlflow.pyfunc import scoring_server

    def decoding(*args: Any, **options: Any) -> None:
        raise AssertionError

    for name in ("parse_parquet_input", "parse_csv_input", "invocations"):
        monkeypatch.setattr(scoring_server, name, getattr(scoring_server, name) if name == "invocations" else decoding)
    model = mlflow.pyfunc.load_model(str(saved))
    answer = scoring_server.invocations(b"PAR1", kind, model, model.metadata.get_input_schema())
    assert (answer.status, len(answer.response.splitlines())) == (415, 1)
    assert "send application/json" in answer.response
    body = json.dumps({"inputs": [base64.b64encode(pngs(1)[0]).decode()]})
    schema = model.metadata.get_input_schema()
    assert scoring_server.invocations(body, "Application/JSON; charset=utf-8".lower(), model, schema).status == 200


def test_errors_are_one_line_and_the_fault_of_the_request(saved: Path) -> None:
    model = mlflow.pyfunc.load_model(str(saved))
    with pytest.raises(ImageError) as caught:
        model.predict([pngs(1)[0], b"GIF89a"])
    assert caught.value.get_http_status_code() == 400
    caught.value.message = "what MLflow's server makes of it"
    assert json.loads(caught.value.serialize_as_json()) == {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "image 1: the image file is no JPEG, PNG, BMP or WebP",
    }


def test_threads_take_turns(saved: Path, detector: Detector) -> None:
    model = mlflow.pyfunc.load_model(str(saved))
    files = pngs(6)
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        for _ in range(5):
            answers[number] = model.predict(files[number])[0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number, data in enumerate(files):
        assert_same(answers[number], decoded(data), detector)


def test_what_the_model_says_of_itself(saved: Path) -> None:
    model = Model.load(str(saved))
    assert (model.run_id, model.model_id) == ("run", "m-1")
    assert model.signature.outputs.input_names() == ["width", "height", "detections"]
    assert [param.name for param in model.signature.params.params] == ["threshold"]
    example = json.loads((saved / "serving_input_example.json").read_text())
    assert len(mlflow.pyfunc.load_model(str(saved)).predict(example["inputs"])) == 1
    assert (saved / "requirements.txt").read_text().split() == requirements()


def test_requirements_are_pinned_and_there() -> None:
    names = [line.split("==")[0] for line in requirements()]
    assert names[0] == "mlflow"
    assert {"numpy", "hydra-core", "omegaconf"} < set(names)
    assert any(name.startswith("mxnet") for name in names)
    assert any(name.startswith("opencv-python") for name in names)
    assert all(line.partition("==")[2] for line in requirements())


def test_what_a_detector_imports_is_required() -> None:
    code = (
        "import sys, ssd.serving.pyfunc\nfor name, one in sys.modules.items(): print(name, getattr(one, '__file__', 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith("ssd")]
    imported = set()
    for _, file in loaded:
        for node in ast.parse(Path(file).read_text()).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    assert len(loaded) > 20
    assert imported - sys.stdlib_module_names - {"ssd"} <= set(pyfunc.MODULES)


def test_nothing_in_the_model_is_a_pickle(saved: Path) -> None:
    assert not [path for path in saved.rglob("*") if path.suffix in (".pkl", ".pickle")]
    assert not list(saved.rglob("__pycache__"))


def test_it_loads_where_this_package_is_not_installed(saved: Path, tmp_path: Path) -> None:
    code = (
        "import sys, json, mlflow.pyfunc, pathlib\n"
        f"model = mlflow.pyfunc.load_model({str(saved)!r})\n"
        "import ssd; print(json.dumps([ssd.__file__, model.predict(pathlib.Path('a.png').read_bytes())]))\n"
    )
    (tmp_path / "a.png").write_bytes(pngs(1)[0])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    place, answers = json.loads(done.stdout.splitlines()[-1])
    assert Path(place).is_relative_to(saved / "code")
    assert len(answers) == 1


def test_the_device_is_a_setting_of_whoever_loads_it(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(pyfunc.Detector, "load", lambda *about, **more: asked.append((about, more)))
    pyfunc._load_pyfunc(str(saved / "data" / "checkpoint"), {"device": "gpu(1)"})
    pyfunc._load_pyfunc(str(saved / "data" / "checkpoint"))
    assert [about[1] for about, _ in asked] == ["gpu(1)", "cpu"]


Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def served(saved: Path, start_server: Callable[..., str]) -> Ask:
    """ask(body) posts to /invocations of `mlflow models serve`; returns status and answer."""
    address = start_server("mlflow", "models", "serve", "-m", str(saved), "--env-manager", "local")

    def ask(body: bytes) -> tuple[int, Any]:
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=900) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    return ask


@pytest.mark.slow
def test_it_serves(served: Ask, detector: Detector) -> None:
    files = pngs(2)
    inputs = [base64.b64encode(data).decode() for data in files]
    status, answer = served(json.dumps({"inputs": inputs}).encode())
    assert status == 200
    for one, data in zip(answer["predictions"], files, strict=True):
        assert_same(one, decoded(data), detector)
    status, again = served(json.dumps({"inputs": [decoded(data).tolist() for data in files]}).encode())
    assert (status, again) == (200, answer)
    best = answer["predictions"][0]["detections"][0]["score"]
    status, few = served(json.dumps({"inputs": inputs[:1], "params": {"threshold": best}}).encode())
    assert [len(one["detections"]) for one in few["predictions"]] == [1]

    huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (20_000).to_bytes(4, "big") * 2 + b"\x08\2\0\0\0"
    for wrong, message in [
        (["%%"], "image 0: the text is not base64 of an image file"),
        ([inputs[0], "aGVsbG8="], "image 1: the image file is no JPEG, PNG, BMP or WebP"),
        ([inputs[0][:400]], "image 0: "),
        ([[[1, 2], [3, 4]]], "image 0: 1x2x2 is no image"),
        ([base64.b64encode(huge).decode()], "image 0: 20000x20000 pixels are too many"),
        (inputs[:1] * 65, "65 images are too many"),
        ([], "there is no image in the request"),
    ]:
        status, error = served(json.dumps({"inputs": wrong}).encode())
        assert status == 400
        assert error["error_code"] == "INVALID_PARAMETER_VALUE"
        assert error["message"].startswith(message)
        assert "\n" not in error["message"]
        assert len(error["message"]) < 200
    for field, message in [
        (
            {"params": {"treshold": 0.3}},
            "there is no parameter 'treshold', did you mean 'threshold'? (known: threshold)",
        ),
        ({"parms": {"threshold": 0.3}}, "there is no field 'parms', did you mean 'params'? (known: inputs, params)"),
        ({"threshold": 0.3}, "there is no field 'threshold' (known: inputs, params)"),
        ({"params": {"threshold": 3}}, "parameter threshold: 3 is not a score, expected a number from 0 to 1"),
    ]:
        status, error = served(json.dumps({"inputs": inputs, **field}).encode())
        assert (status, error["message"]) == (400, message)
    for nonsense in (b"", b"{", b'{"photos": []}', b'{"inputs": ["x"], "params": {"threshold": "high"}}'):
        assert served(nonsense)[0] == 400

    image = inputs[0]
    for params in (None, float("nan"), float("inf"), 2, -1, "high", True, [0.5], {"a": 0.5}, [image], image):
        status, error = served(json.dumps({"inputs": inputs, "params": {"threshold": params}}).encode())
        assert status == 400
        assert error["message"].startswith("parameter threshold: ")
        assert error["message"].endswith(" is not a score, expected a number from 0 to 1")
        assert len(error["message"]) < 200
    deep = 100_000
    for body, message in [
        (b"[" * deep, "the request is nested too deeply"),
        (b'{"inputs": ' + b"[" * deep + b"]" * deep + b"}", "the request is nested too deeply"),
        (b'{"inputs": ' + b'{"image":' * deep + b"1" + b"}" * deep + b"}", "the request is nested too deeply"),
        (b'{"inputs": ' + b"[" * 700 + b"]" * 700 + b"}", "image 0: "),
        (b'{"inputs": ' + b'{"image":' * 700 + b"1" + b"}" * 701, "int is no form of images"),
        (b'{"inputs": [1' + b"0" * 5000 + b"]}", "the request holds a number of thousands of digits"),
        (
            b'{"inputs": ["' + image.encode(),
            "the request is not JSON (Unterminated string",
        ),
        (b'{"inputs": ["\xff"]}', "the request is not JSON (no UTF-8 text)"),
        (json.dumps([image]).encode(), "the request is a list, expected {'inputs': [images]}"),
        (json.dumps({"inputs": [image], "params": [image]}).encode(), "params is a list, expected {'threshold': 0.5}"),
        (json.dumps({"inputs": [[[[image, 1, 2]]]]}).encode(), "image 0: its values must be whole"),
    ]:
        status, error = served(body)
        assert (status, error["message"][: len(message)]) == (400, message)
        assert len(error["message"]) < 200

    answers: list[tuple[int, Any]] = []
    body = json.dumps({"inputs": inputs}).encode()
    threads = [threading.Thread(target=lambda: answers.append(served(body))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [(200, answer)] * 8
