"""What runs a network for the detector: MXNet, or ONNX Runtime."""

from typing import Any, Protocol

import numpy as np

from ssd.checkpoint.model import Model
from ssd.detection.backends.mxnet import MxnetBackend
from ssd.detection.onnx_file import OnnxModel


class Backend(Protocol):
    """A loaded network. Several threads may call it at the same time.

    takes_levels: whether the input is RGB of 0..255 rather than normalized, because the network does that itself.
    """

    takes_levels: bool

    def forward(self, data: np.ndarray) -> list[np.ndarray]:
        """Of a batch float32 [B, 3, H, W] either [cls_prob [B, C+1, N], boxes [B, N, 4] corners in 0..1] or the
        finished [detection [B, K, 6]], rows (class or -1, score, xmin, ymin, xmax, ymax)."""
        ...


def open_backend(model: Model | OnnxModel, context: Any, source: str) -> Backend:
    """The backend for a model of any kind on a device. Errors: UserError when the device or a parameter is missing."""
    if isinstance(model, OnnxModel):
        from ssd.detection.backends.onnx import OnnxBackend

        return OnnxBackend(model, context)
    return MxnetBackend(model, context, source)
