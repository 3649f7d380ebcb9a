"""A trained detector as MLflow loads and serves it: pictures in, boxes with class names out.

`save()` writes an MLflow model; MLflow then calls `_load_pyfunc()` here, in whatever process serves it. The package
travels inside the model, so that process needs only what the model's requirements.txt lists.

    model = mlflow.pyfunc.load_model("models:/pedestrians@best")
    model.predict([jpeg_bytes, base64_text, array])         # array: HxWx3 uint8 RGB

Imports MLflow, so nothing else imports this module before it is needed.
"""

import importlib.metadata
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from ssd.detection.detector import Detector
from ssd.detection.results import objects
from ssd.errors import UserError
from ssd.interop.pictures import pictures, to_array

PACKAGE = Path(__file__).resolve().parents[1]
# What a detector imports, beside MLflow, as modules.
MODULES = ("mlflow", "mxnet", "numpy", "cv2", "hydra", "omegaconf", "yaml")
DEFAULTS = {"device": "cpu"}  # of model_config: mlflow.pyfunc.load_model(…, model_config={"device": "gpu(1)"})


class PictureError(MlflowException):
    """A request that cannot be answered, in one line: HTTP status 400.

    MLflow's server puts the whole input, a picture, in front of `message`; what is sent is the line alone.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line, error_code=INVALID_PARAMETER_VALUE)
        self._line = line

    def serialize_as_json(self) -> str:
        return json.dumps({"error_code": self.error_code, "message": self._line})


class Served:
    """What MLflow calls. Safe to call from several threads, which take turns."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._turn = threading.Lock()

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Per picture {"width", "height", "detections": [{"class", "name", "score", "box": [xmin, ymin, xmax, ymax] in
        pixels}]}, best score first.

        model_input: see ssd.interop.pictures. params: {"threshold": lowest score wanted}.
        Errors: PictureError, in one line, for the first picture that is none.
        """
        threshold = float((params or {}).get("threshold", 0.0))
        try:
            # One after the other: what is decoded at a time is one picture, however many are asked about.
            return [self._one(item, f"picture {nr}", threshold) for nr, item in enumerate(pictures(model_input))]
        except UserError as error:
            raise PictureError(str(error)) from error

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
    return Served(Detector.load(str(params), options["device"], batch_size=1))


def save(folder: Path, params: Path, run_id: str | None = None, model_id: str | None = None) -> None:
    """Writes the checkpoint `params` (prefix-0012.params, prefix-symbol.json beside it) as an MLflow model.

    folder: where; it must not exist. run_id, model_id: of the MLflow run and logged model that it belongs to.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    symbol = params.with_name(f"{params.name.rpartition('-')[0]}-symbol.json")
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
            signature=signature(),
            input_example=_example(),
            model_config=dict(DEFAULTS),
        )


def requirements() -> list[str]:
    """The installed distributions that a detector needs, pinned: ["mxnet-cu112==1.9.1", …]."""
    modules = [*MODULES, "setuptools"] if sys.version_info >= (3, 12) else list(MODULES)  # MXNet needs its distutils
    owners = importlib.metadata.packages_distributions()
    # "mlflow" is in several distributions (mlflow-skinny, …): the one of that name serves.
    names = [module if module in owners.get(module, ()) else owners[module][0] for module in modules]
    return [f"{name}=={importlib.metadata.version(name)}" for name in names]


def signature() -> Any:
    """Pictures of any form in; what Served.predict returns out; and the parameter `threshold`."""
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
        params=ParamSchema([ParamSpec("threshold", DataType.double, 0.0)]),
    )
    # Else MLflow would make a table of the input before predict() sees it, which pixels do not fit into.
    made._is_signature_from_type_hint = True
    return made


def _example() -> list[str]:
    """A grey picture as base64 text."""
    import base64

    import cv2
    import numpy as np

    _, data = cv2.imencode(".png", np.full((48, 64, 3), 127, np.uint8))
    return [base64.b64encode(data.tobytes()).decode()]
