"""A converted network beside OpenCV's reading of the same files, on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from google.protobuf import text_format

from ssd.importers.caffe.convert import Converted, Options
from ssd.importers.caffe.layers import Network
from ssd.importers.caffe.priors import four_variances
from ssd.importers.caffe.text import parse, read_prototxt
from ssd.mxnet_compat import mx
from ssd.ops.boxes import DecodeParams, decode
from ssd.utils.errors import UserError

COLUMNS = 7  # of OpenCV's detections: image, label, score, corners


class NoReferenceError(Exception):
    """OpenCV cannot read or run the network; the message says why."""


@dataclass(frozen=True)
class Difference:
    """largest: over all numbers of an output; scale: the largest number of the reference."""

    output: str
    shape: tuple[int, ...]
    largest: float
    scale: float

    def fits(self, tolerance: float) -> bool:
        return self.largest <= tolerance * max(1.0, self.scale)


@dataclass(frozen=True)
class Boxes:
    """Of one image: numbers of detections, and how many of either side have no equal on the other."""

    ours: int
    theirs: int
    unmatched: int


class Reference:
    """OpenCV's network. Errors: NoReferenceError."""

    def __init__(self, prototxt: Path, caffemodel: Path) -> None:
        cv2.setLogLevel(0)  # it prints what it then raises
        if ignored := ignored_by_opencv(prototxt):
            raise NoReferenceError(f"it ignores {ignored[0]}")
        try:
            self._net = cv2.dnn.readNetFromCaffe(
                np.frombuffer(fill_defaults(prototxt).encode(), np.uint8), np.fromfile(caffemodel, np.uint8)
            )
            self._net.enableWinograd(False)  # faster, and two to three times less exact
        except cv2.error as error:
            raise NoReferenceError(_reason(error)) from error

    def run(self, data: np.ndarray, layers: Sequence[str]) -> list[np.ndarray]:
        """What the named layers write for an input [1, 3, H, W] as the network was trained on."""
        try:
            self._net.setInput(np.ascontiguousarray(data))
            return [np.array(output) for output in self._net.forward(list(layers))]
        except cv2.error as error:
            raise NoReferenceError(_reason(error)) from error


def run_outputs(converted: Converted, data: np.ndarray) -> list[np.ndarray]:
    """converted.outputs for an input [1, 3, H, W] as the graph takes it."""
    symbols = {name: value.symbol for name, value in converted.outputs.items() if value.symbol is not None}
    found = {name: value.constant for name, value in converted.outputs.items() if value.constant is not None}
    if symbols:
        graph = mx.sym.Group(list(symbols.values()))
        known = {**converted.arg_params, "data": mx.nd.array(data)}
        args = {name: known[name] for name in graph.list_arguments()}
        states = {name: converted.aux_params[name] for name in graph.list_auxiliary_states()}
        outputs = graph.bind(mx.cpu(), args=args, aux_states=states, grad_req="null").forward(is_train=False)
        found |= dict(zip(symbols, (output.asnumpy() for output in outputs), strict=True))
    return [found[name] for name in converted.outputs]


def as_trained(data: np.ndarray, options: Options) -> np.ndarray:
    """The graph's input [B, 3, H, W] as the network in Caffe takes it."""
    if options.mean_image is not None:
        data = data - options.mean_image
    return data[:, ::-1] if options.channels == "BGR" else data


def compare_outputs(names: Sequence[str], ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> list[Difference]:
    """Errors: UserError when an output has another size."""
    found = []
    for name, our, their in zip(names, ours, theirs, strict=True):
        if our.size != their.size:
            raise UserError(f"parity: output {name!r} is {our.shape}, OpenCV's {their.shape}")
        their = their.reshape(our.shape)
        largest = float(np.abs(our - their).max()) if np.isfinite(our).all() else np.inf
        found.append(Difference(name, our.shape, largest, float(np.abs(their).max())))
    return found


def reference_boxes(
    reference: Reference, data: np.ndarray, network: Network, converted: Converted, detection: dict[str, Any]
) -> np.ndarray:
    """[N, 6] rows (class, score, corners) after OpenCV: its DetectionOutput layer, or, for a network without one, our
    suppression of boxes worked out from its outputs."""
    heads = converted.heads
    assert heads is not None
    final = [layer.name for layer in network.layers if layer.type == "DetectionOutput"]
    if final:
        rows = reference.run(data, final)[0].reshape(-1, COLUMNS)
        rows = rows[np.isin(rows[:, 1], heads.labels)]  # OpenCV answers "nothing" with a row of zeros
        labels = [heads.labels.index(int(label)) for label in rows[:, 1]]
        return np.column_stack([labels, rows[:, 2:]]).astype(np.float32)
    outputs = dict(zip(converted.outputs, reference.run(data, list(converted.outputs)), strict=True))
    assert heads.priors is not None
    scores, offsets = (outputs[name] for name in heads.sources)
    return decode(scores.transpose(0, 2, 1), center_size_boxes(offsets, heads.priors), DecodeParams(**detection))[0]


def center_size_boxes(offsets: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Corners [1, N, 4] of offsets [1, N, 4] from anchors [1, 2, N * 4] of corners and variances (Liu et al. 2016,
    equation 2)."""
    corners, variances = (priors[0, row].reshape(-1, 4).astype(np.float64) for row in (0, 1))
    size, center = corners[:, 2:] - corners[:, :2], (corners[:, :2] + corners[:, 2:]) / 2
    moved = offsets[0] * variances
    middle, half = center + moved[:, :2] * size, np.exp(moved[:, 2:]) * size / 2
    return np.concatenate([middle - half, middle + half], axis=1)[None].astype(np.float32)


def compare_boxes(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> Boxes:
    """Pairs detections [N, 6] of the same class whose scores and corners differ by at most `tolerance`."""
    free = np.ones(len(theirs), bool)
    unmatched = 0
    for row in ours:
        gap = np.abs(theirs - row).max(axis=1) if len(theirs) else np.zeros(0)
        gap = np.where(free, gap, np.inf)
        best = int(gap.argmin()) if len(gap) else 0
        if len(gap) and gap[best] <= tolerance * max(1.0, float(np.abs(row[2:]).max())):
            free[best] = False
        else:
            unmatched += 1
    return Boxes(len(ours), len(theirs), unmatched + int(free.sum()))


def _reason(error: cv2.error) -> str:
    return " ".join(str(error).split())[:200]


# OpenCV demands some of these, and clips anchors unless configured not to; Caffe does not.
DEFAULTS = {
    "prior_box_param": ("flip", "clip", "offset"),
    "detection_output_param": (
        "share_location", "background_label_id", "code_type", "keep_top_k", "confidence_threshold"
    ),
}  # fmt: skip


def fill_defaults(prototxt: Path) -> str:
    """The text of a description that was found to be convertible. Errors: UserError, see text.py."""
    message = parse(read_prototxt(prototxt), "NetParameter", prototxt, unknown=False)
    for layer in message.layer:
        for options, fields in DEFAULTS.items():
            if layer.HasField(options):
                part = getattr(layer, options)
                for field in fields:
                    setattr(part, field, getattr(part, field))
        if layer.HasField("prior_box_param"):
            part = layer.prior_box_param
            part.variance[:] = four_variances(part.variance)
        if layer.HasField("detection_output_param"):
            suppression = layer.detection_output_param.nms_param
            suppression.nms_threshold, suppression.top_k = suppression.nms_threshold, suppression.top_k
    return text_format.MessageToString(message)


def ignored_by_opencv(prototxt: Path) -> list[str]:
    """Options that OpenCV passes over, so that its answer is not Caffe's."""
    message = parse(read_prototxt(prototxt), "NetParameter", prototxt, unknown=False)
    layers = [*message.layer, *message.layers]
    return [f"k of layer {layer.name!r}" for layer in layers if layer.lrn_param.k != 1]
