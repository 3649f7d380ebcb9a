"""Networks in ONNX Runtime."""

from typing import Any

import numpy as np
import onnxruntime

from ssd.detection.onnx_file import CPU, LEVELS, OnnxModel, open_session
from ssd.utils.errors import UserError

BEFORE_SUPPRESSION = ["cls_prob", "boxes"]
GPU = "CUDAExecutionProvider"


class OnnxBackend:
    """An ONNX file of this package. ONNX Runtime lets any number of threads in.

    Suppression inside the file is left out where the detector can do it itself, whose thresholds can be changed.
    """

    takes_levels = True

    def __init__(self, model: OnnxModel, context: Any) -> None:
        self._outputs = [model.found()] if model.finished else BEFORE_SUPPRESSION
        self._session = open_session(model.path, _providers(context), self._outputs)

    def forward(self, data: np.ndarray) -> list[np.ndarray]:
        """See Backend."""
        return self._session.run(self._outputs, {LEVELS: data})


def _providers(context: Any) -> list[Any]:
    if context.device_type == "cpu":
        return [CPU]
    if GPU not in onnxruntime.get_available_providers():
        raise UserError("device=gpu: this onnxruntime has no CUDA; install onnxruntime-gpu or choose device=cpu")
    return [(GPU, {"device_id": context.device_id}), CPU]
