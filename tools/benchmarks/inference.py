"""How fast networks find boxes: our formats beside plain MXNet, PyTorch, OpenCV's DNN module and ONNX Runtime.

    python tools/benchmarks/inference.py [vgg16_reduced:300 resnet50:512 mobilenet:512] [--batches 1 8] [--rounds 5]

From a normalized batch in memory to suppressed boxes, the same random weights everywhere. Every contender has a process
of its own and works in turns with the others. The peers: the network as the original mxnet-ssd runs it (Module,
MultiBoxDetection inside the graph); PyTorch (pip install torch; left out without it) as it is, in channels-last, and
compiled; OpenCV and ONNX Runtime on the network as an ONNX file. GFLOP/s are the convolutions' own (two per
multiplication) and stand beside what a matrix product of floats reaches in the same run.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
from parity import random_model
from turns import Contender, in_turns

from ssd.checkpoint.model import Model
from ssd.export.calibration import METHODS
from ssd.export.formats import FORMATS, Calibration
from ssd.mxnet_compat import mx, physical_cores
from ssd.symbol.graphs import attach_detection

NETWORKS = ["vgg16_reduced:300", "resnet50:512", "mobilenet:512"]
BACKGROUND = 7.0  # added to every anchor's background: some dozens of boxes remain, as on a photograph
PEERS = {
    "plain MXNet": "mxnet",
    "PyTorch": "torch",
    "PyTorch, channels-last": "torch-channels-last",
    "PyTorch, compiled": "torch-compiled",
    "OpenCV DNN": "opencv",
    "ONNX Runtime": "onnxruntime",
}
MATRIX = "matrix product"
MATRIX_SIDE = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=2, help="forward passes per round")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    options = parser.parse_args()
    for network in options.networks:
        backbone, shape = network.split(":")
        model = with_background(random_model(f"backbone={backbone}", f"data_shape={shape}"))
        with tempfile.TemporaryDirectory() as folder:
            write(model, Path(folder), options.formats)
            for batch in options.batches:
                measure(network, model, Path(folder), batch, options)


def measure(network: str, model: Model, folder: Path, batch: int, options: argparse.Namespace) -> None:
    threads = str(physical_cores())
    kinds = {f"ours, {name}": f"ours:{FORMATS[name].name}" for name in options.formats} | PEERS | {MATRIX: "matrix"}
    contenders = [
        Contender(name, "infer.py", [kind, str(folder), str(batch), threads], {}) for name, kind in kinds.items()
    ]
    work = batch * flops(model) / 1e9
    able, unable = in_turns(contenders, options.rounds, options.times)
    found = {contender.name: contender for contender in able}
    peak = 2 * MATRIX_SIDE**3 / found.pop(MATRIX).median / 1e9
    fastest = min(found[name].median for name in PEERS if name in found)
    print(
        f"\n{network}, batch {batch}, {work:.1f} GFLOP, {threads} threads, medians of {options.rounds * options.times}"
    )
    print(f"{'':26}{'ms':>9}{'x fastest peer':>16}{'GFLOP/s':>10}{'of peak':>9}{'MB':>7}   peak {peak:.0f} GFLOP/s")
    for name, contender in found.items():
        speed = work / contender.median
        print(f"{name:26}{contender.median * 1000:9.1f}{fastest / contender.median:16.2f}{speed:10.0f}"
              f"{speed / peak:9.0%}{contender.megabytes:7.0f}")  # fmt: skip
    for name, problem in unable.items():
        print(f"{name:26} left out: {problem}")


def with_background(model: Model) -> Model:
    classes = len(model.spec.classes) + 1
    for name, array in model.arg_params.items():
        if name.endswith("_cls_pred_conv_bias"):
            biases = array.asnumpy().reshape(-1, classes)
            biases[:, 0] += BACKGROUND
            model.arg_params[name] = mx.nd.array(biases.ravel())
    return model


def write(model: Model, folder: Path, formats: list[str]) -> None:
    """The network in our formats, and as each peer takes it."""
    spec = model.spec
    rng = np.random.default_rng(0)
    images = [rng.normal(0, 1, (1, 3, spec.height, spec.width)).astype(np.float32) for _ in range(4)]
    for name in {"onnx", *formats}:
        FORMATS[name].write(model, folder / FORMATS[name].name, Calibration(lambda: iter(images), METHODS[0]))
    # OpenCV has no suppression that fits: like PyTorch it gets the network up to probabilities and boxes.
    whole = onnx.load(folder / FORMATS["onnx"].name)  # `images` inside of it is the network's input
    part = onnx.utils.Extractor(whole).extract_model(["images"], ["cls_prob", "boxes"])
    onnx.save(part, folder / "peer.onnx")
    plain = attach_detection(model.symbol, DetectionOf(spec.detection), spec.variances, "mxnet_ssd")
    mx.model.save_checkpoint(str(folder / "plain"), 0, plain, model.arg_params, model.aux_params)
    anchors = model.symbol.get_internals()["multibox_anchors_output"]
    inputs = {name: model.arg_params[name] for name in anchors.list_arguments() if name != "data"}
    states = {name: model.aux_params[name] for name in anchors.list_auxiliary_states()}
    corners = anchors.bind(
        mx.cpu(), {**inputs, "data": mx.nd.zeros((1, 3, spec.height, spec.width))}, aux_states=states, grad_req="null"
    ).forward()
    params = {**model.arg_params, **model.aux_params}
    np.savez(folder / "params.npz", **{name: array.asnumpy() for name, array in params.items()})
    np.save(folder / "anchors.npy", corners[0].asnumpy()[0])
    (folder / "graph.json").write_text(model.symbol.tojson())
    (folder / "size.json").write_text(json.dumps([spec.height, spec.width]))


class DetectionOf:
    """spec.detection as attributes."""

    def __init__(self, settings: dict[str, float]) -> None:
        self.score, self.nms, self.topk = settings["score"], settings["nms"], int(settings["topk"])


def flops(model: Model) -> float:
    """Of all convolutions on one image."""
    spec = model.spec
    inside = model.symbol.get_internals()
    _, shapes, _ = inside.infer_shape(data=(1, 3, spec.height, spec.width))
    outputs = dict(zip(inside.list_outputs(), shapes, strict=True))
    total = 0.0
    for name, array in model.arg_params.items():
        if name.endswith("_weight"):  # of a convolution: outputs, inputs of its group, height, width
            _, _, height, width = outputs[name.removesuffix("_weight") + "_output"]
            total += 2.0 * array.size * height * width
    return total


if __name__ == "__main__":
    main()
