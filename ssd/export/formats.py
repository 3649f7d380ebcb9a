"""The forms a trained model can be exported in."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssd.checkpoint.model import Model, ModelSpec, Params
from ssd.detection.description import FIXED, IMAGE, describe
from ssd.export.biases import bias_correct
from ssd.export.bundle import write_bundle
from ssd.export.equalization import cross_layer_equalize
from ssd.graph_passes.fold_batch_norm import fold_batch_norm, fold_input
from ssd.ops.boxes import DecodeParams
from ssd.symbol.graphs import inference_graph
from ssd.utils.errors import UserError

ImageBatches = Callable[[], Iterable[np.ndarray]]  # batches float32 [B, 3, H, W] as the network takes them, normalized


@dataclass(frozen=True)
class Calibration:
    """What a quantized format needs: images like those the model will see, and how their ranges are chosen."""

    images: ImageBatches
    method: str


def write_mxnet(model: Model, path: Path, calibration: Calibration) -> None:
    """A folder for plain MXNet."""
    spec = model.spec
    graph = inference_graph(model.symbol, DecodeParams(**spec.detection), spec.variances, spec.compat)
    write_bundle(path, spec, graph, model.arg_params, model.aux_params)


def write_onnx(model: Model, path: Path, calibration: Calibration, form: str = IMAGE) -> None:
    """A file for onnxruntime. form: IMAGE or FIXED, see ssd.detection.description."""
    whole = onnx_export().to_onnx(model.spec, open_graph(model), model.arg_params, model.aux_params)
    _write_onnx(path, whole, model.spec, "float32", form)


def write_int8(model: Model, path: Path, calibration: Calibration) -> None:
    """A folder for plain MXNet on CPUs, its convolutions in 8 bits."""
    from ssd.export.int8 import quantize

    if model.spec.compat:
        raise UserError("deploy.format=int8 does not go with compat=mxnet_ssd; choose onnx_int8, or add compat=null")
    graph, args, aux = fold_batch_norm(open_graph(model), model.arg_params, model.aux_params)
    even = replace(model, arg_params=equalized(graph, args, aux, calibration.images), aux_params=aux)
    write_bundle(path, model.spec, *quantize(even, graph, calibration.images(), calibration.method))


def write_onnx_int8(model: Model, path: Path, calibration: Calibration, form: str = IMAGE) -> None:
    """A file for onnxruntime, its convolutions in 8 bits. form: as of write_onnx."""
    export = onnx_export()  # first: it names what is missing
    from ssd.export.onnx.int8 import quantize

    spec = model.spec
    graph, args, aux = fold_batch_norm(open_graph(model), model.arg_params, model.aux_params)
    graph, args, (shift, scale) = fold_input(graph, (args, aux), spec.mean, spec.std)
    inside = replace(spec, mean=shift.tolist(), std=scale.tolist())
    args = equalized(graph, args, aux, lambda: renormalized(calibration.images(), spec, inside))
    whole = export.to_onnx(inside, graph, args, aux)
    whole = quantize(whole, spec, calibration.images(), calibration.method)
    _write_onnx(path, whole, spec, "int8", form)


def _write_onnx(path: Path, whole: Any, spec: ModelSpec, precision: str, form: str) -> None:
    from ssd.export.onnx.pixels import with_pixels

    whole = with_pixels(whole, spec.input) if form == IMAGE else whole
    onnx_export().write_onnx(path, whole, describe(spec, precision, form))


@dataclass(frozen=True)
class Format:
    """name: of the file or folder. fixed: writes it for an input of the network's size, where `write` does for images
    of any size."""

    name: str
    write: Callable[[Model, Path, Calibration], None]
    quantized: bool
    fixed: Callable[[Model, Path, Calibration], None] | None = None


FORMATS = {
    "mxnet": Format("mxnet", write_mxnet, False),
    "onnx": Format("ssd.onnx", write_onnx, False, partial(write_onnx, form=FIXED)),
    "int8": Format("int8", write_int8, True),
    "onnx_int8": Format("ssd_int8.onnx", write_onnx_int8, True, partial(write_onnx_int8, form=FIXED)),
}


def open_graph(model: Model) -> Any:
    """The model's graph up to cls_prob and boxes. Errors: UserError when suppression cannot be taken off."""
    spec = model.spec
    graph = inference_graph(model.symbol, DecodeParams(**spec.detection), spec.variances, None)
    if len(graph.list_outputs()) != 2:
        raise UserError("this deployed model decodes as the original did; export the checkpoint it came from")
    return graph


def equalized(graph: Any, arg_params: Params, aux_params: Params, images: ImageBatches) -> Params:
    """Arguments that suit 8 bits better; the answers of the graph in 32 bits they leave nearly as they are."""
    args = cross_layer_equalize(graph, arg_params, aux_params, images())
    return bias_correct(graph, args, aux_params, images())


def renormalized(batches: Iterable[np.ndarray], was: ModelSpec, wanted: ModelSpec) -> Iterable[np.ndarray]:
    """ImageBatches [B, 3, H, W], normalized as one specification says, as another one says."""
    mean, std, shift, scale = (
        np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (was.mean, was.std, wanted.mean, wanted.std)
    )
    for batch in batches:
        yield (batch * std + mean - shift) / scale


def onnx_export() -> Any:
    """The module that writes ONNX files. Errors: UserError without the package onnx."""
    try:
        from ssd.export.onnx import export
    except ImportError as error:
        raise UserError(
            f"deploy.format: ONNX files need the package onnx ({error}): pip install 'ssd[onnx]'"
        ) from error
    return export
