"""A trained detector as MLflow loads and serves it: images in, boxes with class names out.

`save()` writes an MLflow model; MLflow then calls `_load_pyfunc()` here, in whatever process serves it. The package
travels inside the model, so that process needs only what the model's requirements.txt lists.

    model = mlflow.pyfunc.load_model("models:/pedestrians@best")
    model.predict([jpeg_bytes, base64_text, array])         # array: HxWx3 uint8 RGB

Imports MLflow, so nothing else imports this module before it is needed.
"""

import importlib.metadata
import json
import math
import shutil
import sys
import tempfile
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from ssd.checkpoint.model import symbol_file
from ssd.detection.detector import Detector
from ssd.detection.results import objects
from ssd.detection.selection import score
from ssd.serving.requests import images, to_array
from ssd.utils.errors import UserError, did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
# What a detector imports, beside MLflow, as modules.
MODULES = ("mlflow", "mxnet", "numpy", "cv2", "hydra", "omegaconf", "yaml", "antlr4")
DEFAULTS = {"device": "cpu"}  # of model_config: mlflow.pyfunc.load_model(…, model_config={"device": "gpu(1)"})
THRESHOLD = "threshold"  # the only parameter of a request; its default is logged with the model, in model_config, too
PIXELS = "request_pixels"  # of model_config
JSON = "application/json"  # the only form of a request to MLflow's server
FIELDS = ("inputs", "params")  # of a request to MLflow's server


class ImageError(MlflowException):
    """A request that cannot be answered, in one line: HTTP status 400.

    MLflow's server puts the whole input, an image, in front of `message`; what is sent is the line alone.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line, error_code=INVALID_PARAMETER_VALUE)
        self._line = line

    def serialize_as_json(self) -> str:
        return json.dumps({"error_code": self.error_code, "message": self._line})


class Served:
    """What MLflow calls. Safe to call from several threads, which take turns.

    threshold: lowest score wanted where a request names none. pixels: most that the images of a request have together.
    """

    def __init__(self, detector: Detector, threshold: float, pixels: float) -> None:
        self._detector = detector
        self._threshold = threshold
        self._pixels = pixels
        self._turn = threading.Lock()

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Per image {"width", "height", "detections": [{"class", "name", "score", "box": [xmin, ymin, xmax, ymax] in
        pixels}]}, best score first.

        model_input: see ssd.serving.requests. params: {"threshold": lowest score wanted}.
        Errors: PictureError, in one line, for the first image that is none, and for other parameters.
        """
        threshold = check_params(params).get(THRESHOLD, self._threshold)
        try:
            items = images(model_input, self._pixels)
            # One after the other: what is decoded at a time is one image, however many are asked about.
            return [self._one(item, f"image {nr}", threshold) for nr, item in enumerate(items)]
        except UserError as error:
            raise ImageError(str(error)) from error

    def _one(self, item: Any, what: str, threshold: float) -> dict[str, Any]:
        image = to_array(item, what)
        with self._turn:
            detections = self._detector.predict([image])[0]
        height, width = image.shape[:2]
        found = objects(detections, self._detector.classes, threshold)
        return {"width": width, "height": height, "detections": found}


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Served:
    """Called by MLflow with the folder that save() filled."""
    options = {**DEFAULTS, **(model_config or {})}
    (params,) = Path(path).glob("*.params")
    keep_unknown_names()
    threshold, pixels = options.get(THRESHOLD, 0.0), options.get(PIXELS, math.inf)  # of models logged without them
    score(threshold, f"model_config {THRESHOLD}")
    return Served(Detector.load(str(params), options["device"], batch_size=1), threshold, pixels)


def check_params(params: Any) -> dict[str, float]:
    """The parameters of a request, whatever it has in their place. Errors: PictureError naming the parameter."""
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        raise ImageError(f"params is a {type(params).__name__}, expected {{{THRESHOLD!r}: 0.5}}")
    check_names(params, (THRESHOLD,), "parameter")
    try:
        return {name: score(_number(value), f"parameter {name}") for name, value in params.items()}
    except UserError as error:
        raise ImageError(str(error)) from error


def _number(value: Any) -> Any:
    """NumPy's numbers, which MLflow passes on, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def check_names(given: Collection[Any], known: Collection[str], what: str) -> None:
    """Errors: PictureError for a name that is not among the known ones."""
    for name in given:
        if name not in known:
            hint = ", ".join(filter(None, [f"{str(name)[:40]!r}", did_you_mean(name, known)]))
            raise ImageError(f"there is no {what} {hint} (known: {', '.join(known)})")


def keep_unknown_names() -> None:
    """Makes MLflow refuse what a request names wrongly: it would drop it, with a warning in its own log.

    Its functions are not public: a release without them drops names as before. Other models of the process are served
    as before, too.
    """
    enforce = getattr(mlflow.pyfunc, "_enforce_params_schema", None)
    if enforce and not hasattr(enforce, "of_ssd"):

        def checked(params: Any, schema: Any) -> Any:
            # Without MLflow's defaults: model_config has them, and may be given otherwise when the model is loaded.
            return check_params(params) if _is_ours(schema) else enforce(params, schema)

        checked.of_ssd = True  # type: ignore[attr-defined]
        mlflow.pyfunc._enforce_params_schema = checked  # type: ignore[attr-defined]
    server = sys.modules.get("mlflow.pyfunc.scoring_server")  # there in a process that serves
    if server:
        _refuse_tables(server)
    parse = getattr(server, "_parse_json_data", None)
    if server and parse and not hasattr(parse, "of_ssd"):

        def parsed(data: Any, metadata: Any, input_schema: Any) -> Any:
            if not _is_ours(metadata.get_params_schema()):
                return parse(data, metadata, input_schema)
            content = _content(data)
            check_names(content, FIELDS, "field")
            return parse(content, metadata, input_schema)

        parsed.of_ssd = True  # type: ignore[attr-defined]
        server._parse_json_data = parsed  # type: ignore[attr-defined]


def _refuse_tables(server: Any) -> None:
    """Makes MLflow's server refuse requests other than JSON before it decodes them: a few kilobytes of Parquet may
    become gigabytes, and its CSV fits no image."""
    answer = getattr(server, "invocations", None)
    if answer and not hasattr(answer, "of_ssd"):

        def answered(data: Any, content_type: Any, model: Any, input_schema: Any) -> Any:
            kind = str(content_type or "").partition(";")[0].strip().lower()
            if kind != JSON and _is_ours(model.metadata.get_params_schema()):
                text = f"Content-Type {kind[:80]!r} is not served, send {JSON}: {{'inputs': [images]}}"
                return server.InvocationsResponse(response=text, status=415, mimetype="text/plain")
            return answer(data, content_type, model, input_schema)

        answered.of_ssd = True  # type: ignore[attr-defined]
        server.invocations = answered


def _content(body: Any) -> dict[str, Any]:
    """The fields of a request. Errors: PictureError, without the body: MLflow would send an image back."""
    try:
        content = body if isinstance(body, dict) else json.loads(body)
    except RecursionError:
        raise ImageError("the request is nested too deeply, expected {'inputs': [images]}") from None
    except json.JSONDecodeError as error:
        raise ImageError(f"the request is not JSON ({error.msg} at character {error.pos})") from None
    except UnicodeDecodeError:
        raise ImageError("the request is not JSON (no UTF-8 text)") from None
    except ValueError:
        raise ImageError("the request holds a number of thousands of digits") from None
    if not isinstance(content, dict):
        raise ImageError(f"the request is a {type(content).__name__}, expected {{'inputs': [images]}}")
    return content


def _is_ours(schema: Any) -> bool:
    return schema is not None and [param.name for param in schema.params] == [THRESHOLD]


def save(
    folder: Path, params: Path, serving: Mapping[str, Any], run_id: str | None = None, model_id: str | None = None
) -> None:
    """Writes the checkpoint `params` (prefix-0012.params, prefix-symbol.json beside it) as an MLflow model.

    folder: where; it must not exist. serving: `threshold`, the lowest score that it answers with unless a request says
    otherwise, and `request_pixels`, most that the images of a request have together; both go into model_config.
    run_id, model_id: of the MLflow run and logged model that it belongs to.
    """
    from mlflow.models import Model

    symbol = symbol_file(params)
    with tempfile.TemporaryDirectory(prefix="ssd-model-") as draft:
        data = Path(draft) / "checkpoint"
        data.mkdir()
        for file in (params, symbol):
            shutil.copyfile(file, data / file.name)
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=__name__,
            data_path=str(data),
            code_paths=[str(PACKAGE)],
            mlflow_model=Model(run_id=run_id, model_id=model_id),
            pip_requirements=requirements(),
            signature=signature(serving[THRESHOLD]),
            input_example=_example(),
            model_config={**DEFAULTS, THRESHOLD: serving[THRESHOLD], PIXELS: serving[PIXELS]},
        )


def requirements() -> list[str]:
    """The installed distributions that a detector needs, pinned: ["mxnet-cu112==1.9.1", …]."""
    modules = [*MODULES, "setuptools"] if sys.version_info >= (3, 12) else list(MODULES)  # MXNet needs its distutils
    owners = importlib.metadata.packages_distributions()
    # "mlflow" is in several distributions (mlflow-skinny, …): the one of that name serves.
    names = [module if module in owners.get(module, ()) else owners[module][0] for module in modules]
    return [f"{name}=={importlib.metadata.version(name)}" for name in names]


def signature(threshold: float) -> Any:
    """Images of any form in; what Served.predict returns out; and the parameter `threshold`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Array, Object, Property

    found = Object(
        [
            Property("class", DataType.long),
            Property("name", DataType.string),
            Property("score", DataType.double),
            Property("box", Array(DataType.double)),
        ]
    )
    made = ModelSignature(
        inputs=Schema([ColSpec(AnyType())]),
        outputs=Schema(
            [ColSpec(DataType.long, "width"), ColSpec(DataType.long, "height"), ColSpec(Array(found), "detections")]
        ),
        params=ParamSchema([ParamSpec(THRESHOLD, DataType.double, threshold)]),
    )
    # Else MLflow would make a table of the input before predict() sees it, which pixels do not fit into.
    made._is_signature_from_type_hint = True
    return made


def _example() -> list[str]:
    """A gray image as base64 text."""
    import base64

    import cv2
    import numpy as np

    _, data = cv2.imencode(".png", np.full((48, 64, 3), 127, np.uint8))
    return [base64.b64encode(data.tobytes()).decode()]
