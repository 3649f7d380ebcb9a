"""ONNX files of this package: their description, and opening them in ONNX Runtime."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.checkpoint.model import ModelSpec
from ssd.detection.description import read_description
from ssd.detection.onnx_prune import between
from ssd.utils.errors import UserError
from ssd.utils.process import physical_cores

IMAGE = "image"  # uint8 [B, height, width, 3] RGB of any size
LEVELS = "images"  # float32 [B, 3, H, W] RGB 0..255, the network's input
FOUND = "detection"  # [B, K, 6]: corners in pixels of the image, or in shares of the input where that is fixed
PLACED = "detection_on_input"  # of a file for images of any size: the same in shares of the network's input
CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class OnnxModel:
    """A file whose input is `images` float32 [B, 3, H, W] (RGB 0..255), or an `image` uint8 [B, height, width, 3] RGB
    with the former inside, and whose outputs are `detection` [B, K, 6], `cls_prob` [B, C+1, N] and `boxes` [B, N, 4].

    finished: whether the detector takes the first, or decodes the others itself, by thresholds that can be changed.
    any_size: whether it takes an `image`. The detector enters at `images` in both cases: OpenCV resizes faster.
    """

    spec: ModelSpec
    path: Path
    finished: bool
    any_size: bool

    def found(self) -> str:
        """The name of the detection in shares of the input."""
        return PLACED if self.any_size else FOUND


def read_onnx(path: Path, finished: bool | None = None) -> OnnxModel:
    """Errors: UserError when it is missing, damaged, or written by something else; or without onnxruntime."""
    metadata, inputs, outputs = _look_into(path)
    spec = from_metadata(metadata, path)
    any_size = list(inputs) == [IMAGE] and len(inputs[IMAGE]) == 4 and inputs[IMAGE][3] == 3
    if not any_size and (list(inputs) != [LEVELS] or inputs[LEVELS][1:] != [3, spec.height, spec.width]):
        raise UserError(
            f"{path}: its input is neither image [B, height, width, 3] nor images [B, 3, {spec.height}, {spec.width}], "
            "as it describes itself"
        )
    if missing := {"detection", "cls_prob", "boxes"} - set(outputs):
        raise UserError(f"{path}: has no output {min(missing)}; it was not written by this package")
    if outputs["cls_prob"][1] != len(spec.classes) + 1:
        raise UserError(f"{path}: its output cls_prob is {outputs['cls_prob']}, {len(spec.classes)} classes are named")
    return OnnxModel(spec, path, spec.compat is not None if finished is None else finished, any_size)


def open_whole(path: Path) -> Any:
    """A session of the file as it is, on the CPU, as anyone would open it. Errors: UserError."""

    def opened(runtime: Any, options: Any) -> Any:
        options.intra_op_num_threads = _threads()
        return runtime.InferenceSession(str(path), options, providers=[CPU])

    return _opened(path, opened)


def open_session(path: Path, providers: list[Any], outputs: Sequence[str]) -> Any:
    """An onnxruntime.InferenceSession from `images` to some outputs, without what only others need, on as many threads
    as MXNet would take. Errors: UserError."""

    def opened(runtime: Any, options: Any) -> Any:
        options.intra_op_num_threads = _threads()
        # Planning memory for a whole batch ahead makes nothing faster, and takes half as much again.
        options.enable_mem_pattern = False
        with tempfile.TemporaryDirectory(prefix="ssd-") as folder:
            # Not as bytes, which would stay in memory beside what the runtime makes of them.
            part = Path(folder) / path.name
            with open(part, "wb") as file:
                file.writelines(between(memoryview(path.read_bytes()), [LEVELS], outputs))
            return runtime.InferenceSession(str(part), options, providers=providers)

    return _opened(path, opened)


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS") or physical_cores())


def _look_into(path: Path) -> tuple[dict[str, str], dict[str, list[Any]], dict[str, list[Any]]]:
    """Metadata, and the shapes of inputs and outputs, from a session that is quickly there. Errors: UserError."""

    def opened(runtime: Any, options: Any) -> Any:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        session = runtime.InferenceSession(str(path), options, providers=[CPU])
        inputs, outputs = (
            {node.name: list(node.shape) for node in nodes} for nodes in (session.get_inputs(), session.get_outputs())
        )
        return dict(session.get_modelmeta().custom_metadata_map), inputs, outputs

    return _opened(path, opened)


def _opened(path: Path, how: Callable[[Any, Any], Any]) -> Any:
    """how(onnxruntime, session options), which opens the file. Errors: UserError when it cannot."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: ONNX files need onnxruntime (pip install 'ssd[onnx]')") from error
    if not path.is_file():
        raise UserError(f"model {path}: does not exist")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    try:
        return how(onnxruntime, options)
    except Exception as error:  # its exceptions have no common class but this one
        problem = str(error).strip().splitlines()[0][:200]
        raise UserError(f"{path}: cannot be opened, it is damaged or no ONNX file ({problem})") from error


def to_metadata(description: Mapping[str, Any]) -> dict[str, str]:
    """A description as metadata_props: JSON by key."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in description.items()}


def from_metadata(metadata: Mapping[str, str], path: Path) -> ModelSpec:
    """Errors: UserError when there is no description or it is damaged."""
    if "ssd" not in metadata:
        raise UserError(f"{path}: says nothing of its classes and input; it was not written by this package")
    content: dict[str, Any] = {}
    for key, value in metadata.items():
        try:
            content[key] = json.loads(value)
        except (ValueError, RecursionError):
            content[key] = value  # someone else's
    return read_description(content, path)
