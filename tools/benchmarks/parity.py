"""Whether exported networks answer what MXNet answers: every backbone in every float32 format, with random weights.

    python tools/benchmarks/parity.py                                     # all backbones at 300 and 512
    python tools/benchmarks/parity.py --backbones resnet50 --shapes 512   # one
    python tools/benchmarks/parity.py --images photos/ --count 4          # on images of one's own instead of noise

One line per network and format. before: the largest difference of probabilities and corners (in shares of the input)
before suppression, of export and MXNet. rounding: how far MXNet itself is from what it answers in float64; exact: how
far the export is from that. differ: boxes that differ after suppression, of all that the network finds; limit: those
that differ because they met a limit by a hair. Exit code 1 if boxes differ, or if an export is both farther than 1e-4
from MXNet and farther than MXNet from float64.
"""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ssd.checkpoint.model import Model, ModelSpec
from ssd.config.compose import compose
from ssd.config.overrides import groups
from ssd.detection.sources import iterate
from ssd.export.agreement import ModelUnderTest, agreement
from ssd.export.calibration import METHODS
from ssd.export.formats import FORMATS, Calibration
from ssd.graph_passes.fold_constants import with_constants
from ssd.mxnet_compat import mx
from ssd.ops.boxes import DecodeParams
from ssd.symbol import build_test
from ssd.symbol.graphs import inference_graph

CLASSES = [f"class {number}" for number in range(20)]
LOGIT, OFFSET = 0.7, 0.3  # spread of what the predictors say


def random_model(*overrides: str) -> Model:
    """An untrained network whose activations keep their size from layer to layer, and whose answers spread."""
    cfg = compose([*overrides])
    spec = ModelSpec.from_config(cfg, CLASSES)
    graph = build_test(cfg, len(CLASSES))
    shapes, _, aux_shapes = graph.infer_shape(data=(1, 3, spec.height, spec.width))
    rng = np.random.default_rng(0)
    args = {
        name: mx.nd.array(_random(rng, name, shape))
        for name, shape in zip(graph.list_arguments(), shapes, strict=True)
        if name != "data"
    }
    aux = {
        name: mx.nd.array(_random(rng, name, shape))
        for name, shape in zip(graph.list_auxiliary_states(), aux_shapes, strict=True)
    }
    return tamed(Model(spec, graph, args, aux))


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith(("_gamma", "_var")):
        return rng.uniform(0.8, 1.2, shape)
    if name.endswith("_scale"):
        return np.full(shape, 20.0)
    if name.endswith(("_beta", "_mean", "_bias")):
        return rng.normal(0, 0.1, shape)
    return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)


def tamed(model: Model) -> Model:
    """The same with predictors that answer in a sensible range: spread by LOGIT and OFFSET."""
    spec = model.spec
    inside = model.symbol.get_internals()
    names = [name for name in inside.list_outputs() if name.endswith("_pred_conv_output")]
    data = mx.nd.array(np.random.default_rng(1).normal(0, 1, (1, 3, spec.height, spec.width)))
    outputs = mx.sym.Group([inside[name] for name in names])
    args = {name: model.arg_params[name] for name in outputs.list_arguments() if name != "data"}
    aux = {name: model.aux_params[name] for name in outputs.list_auxiliary_states()}
    answers = outputs.bind(mx.cpu(), args={**args, "data": data}, aux_states=aux, grad_req="null").forward()
    for name, answer in zip(names, answers, strict=True):
        spread = max(float(answer.asnumpy().std()), 1e-6)
        weight = name.replace("_output", "_weight")
        model.arg_params[weight] *= (LOGIT if "cls" in name else OFFSET) / spread
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=groups()["backbone"])
    parser.add_argument("--shapes", nargs="+", default=["300", "512"])
    parser.add_argument("--formats", nargs="+", default=["mxnet", "onnx"], choices=list(FORMATS))
    parser.add_argument("--compat", default="null", choices=["null", "mxnet_ssd"])
    parser.add_argument("--images", help="an image, a folder or a glob")
    parser.add_argument("--count", type=int, default=2)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    noise = np.random.default_rng(2).integers(0, 256, (options.count, 375, 500, 3), dtype=np.uint8)
    images = [image for _, image in iterate(options.images)][: options.count] if options.images else list(noise)
    columns = {"before": 9, "rounding": 9, "exact": 9, "boxes": 6, "differ": 6, "limit": 6, "MB": 7, "seconds": 8}
    print(f"{'network':22} {'format':10} " + " ".join(f"{name:>{width}}" for name, width in columns.items()))
    wrong = False
    for backbone in options.backbones:
        for shape in options.shapes:
            model = random_model(f"backbone={backbone}", f"data_shape={shape}", f"compat={options.compat}")
            for name in options.formats:
                wrong |= not _line(f"{backbone} {shape}", name, model, images)
    sys.exit(int(wrong))


def _line(network: str, name: str, model: Model, images: list[np.ndarray]) -> bool:
    started = time.monotonic()
    trained = ModelUnderTest.of_model(model, mx.cpu())
    calibration = Calibration(lambda: (trained.opened.preprocess([image]) for image in images), METHODS[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FORMATS[name].name
        FORMATS[name].write(model, path, calibration)
        exported = ModelUnderTest.of_file(path, mx.cpu())
        found = agreement(trained, exported, images)
        truth = in_float64(model, trained.opened.preprocess(images[:1]))
        rounding, exact = (
            max(float(np.abs(ours - theirs).max()) for ours, theirs in zip(said, truth, strict=True))
            for said in (
                detector.forward(detector.preprocess(images[:1])) for detector in (trained.opened, exported.opened)
            )
        )
        size = sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()) / 1e6
    numbers = f"{found.before:9.2g} {rounding:9.2g} {exact:9.2g} {found.boxes:6d} {found.differing:6d}"
    times = f"{found.borderline:6d} {size:7.1f} {time.monotonic() - started:8.1f}"
    print(f"{network:22} {name:10} {numbers} {times}", flush=True)
    equal = found.exact or (not found.differing and exact <= rounding)
    return equal or FORMATS[name].quantized


def in_float64(model: Model, data: np.ndarray) -> list[np.ndarray]:
    """cls_prob and boxes."""
    spec = model.spec
    graph = inference_graph(model.symbol, DecodeParams(**spec.detection), spec.variances, None)
    graph, args = with_constants(graph, model.arg_params, data.shape[1:])  # anchors exist in float32 only
    arrays = {name: args[name].astype("float64") for name in graph.list_arguments() if name != "data"}
    states = {name: model.aux_params[name].astype("float64") for name in graph.list_auxiliary_states()}
    arrays["data"] = mx.nd.array(data, dtype="float64")
    executor = graph.bind(mx.cpu(), args=arrays, aux_states=states, grad_req="null")
    return [output.asnumpy() for output in executor.forward()]


if __name__ == "__main__":
    main()
