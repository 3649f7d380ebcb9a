"""Anything that `model=` takes, recognized by what it is."""

from pathlib import Path

from ssd.checkpoint.model import Model, load_model
from ssd.detection.bundle import is_bundle, read_bundle
from ssd.detection.onnx_file import OnnxModel, read_onnx
from ssd.utils.errors import UserError

MXNET_KINDS = "a run directory, a prefix-0012.params file or a deploy bundle"
KINDS = "a run directory, a prefix-0012.params file, a deploy bundle or an .onnx file"  # of model=


def open_model(path: str | Path, finished: bool | None = None) -> Model | OnnxModel:
    """A run directory or a prefix-0012.params file (see load_model), the folder of a deploy bundle, or an .onnx file.

    finished: whether the detector shall take the boxes that the graph of a deployed model arrives at, rather than
    choose its own by thresholds that can be changed; by default it does so with compat, whose rules only the graph
    knows.
    Errors: UserError when it is none of these, or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"model {path}: does not exist; name {KINDS}")
    if path.suffix == ".onnx":
        return read_onnx(path, finished)
    if is_bundle(path):
        return read_bundle(path, finished)
    if is_bundle(path.parent) and path.is_file():
        raise UserError(f"model {path}: this file is a part of the deploy bundle {path.parent}, name the folder")
    return load_model(path)
