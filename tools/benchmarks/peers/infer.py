"""One contender of inference.py: infer.py KIND FOLDER BATCH THREADS. The folder holds the network in all forms."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from turns import serve

from ssd.ops.boxes import DecodeParams, decode

Work = Callable[[], object]
PARAMS = DecodeParams(score=0.01, nms=0.45, topk=400, keep=200, soft_nms=None, sigma=0.5, flip=False)
MATRIX_SIDE = 2048


def main(kind: str, folder: str, batch: str, threads: str) -> None:
    os.environ["OMP_NUM_THREADS"] = threads
    make = ours if kind.startswith("ours:") else KINDS[kind]
    serve(make(kind.partition(":")[2] or kind, Path(folder), int(batch), int(threads)))


def data_for(folder: Path, batch: int) -> np.ndarray:
    """float32 [B, 3, H, W], normalized."""
    shape = (batch, 3, *json.loads((folder / "size.json").read_text()))
    return np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)


def ours(name: str, folder: Path, batch: int, threads: int) -> Work:
    from ssd.detection import Detector

    detector = Detector.load(str(folder / name), batch_size=batch)
    data = np.zeros((batch, 3, detector.spec.height, detector.spec.width), np.float32)
    data[:] = np.random.default_rng(1).normal(0, 1, data.shape)
    return lambda: detector.predict_batch(data)


def plain_mxnet(kind: str, folder: Path, batch: int, threads: int) -> Work:
    from ssd.mxnet_compat import mx

    data = data_for(folder, batch)
    symbol, arg_params, aux_params = mx.model.load_checkpoint(str(folder / "plain"), 0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", data.shape)], for_training=False)
    module.set_params(arg_params, aux_params)

    def work() -> object:
        module.forward(mx.io.DataBatch([mx.nd.array(data)]), is_train=False)
        return module.get_outputs()[0].asnumpy()

    return work


def pytorch(kind: str, folder: Path, batch: int, threads: int) -> Work:
    import torch
    from torch_graph import Graph, probabilities

    torch.set_num_threads(threads)
    data = data_for(folder, batch)
    anchors = torch.from_numpy(np.load(folder / "anchors.npy"))
    graph = Graph((folder / "graph.json").read_text(), dict(np.load(folder / "params.npz"))).eval()
    memory_format = torch.contiguous_format if kind == "torch" else torch.channels_last
    graph = graph.to(memory_format=memory_format)
    network = torch.compile(graph) if kind == "torch-compiled" else graph

    def work() -> object:
        with torch.inference_mode():
            tensor = torch.from_numpy(data).contiguous(memory_format=memory_format)
            cls_prob, boxes = probabilities(*network(tensor), anchors)
        return decode(cls_prob.numpy(), boxes.numpy(), PARAMS)

    return work


def opencv(kind: str, folder: Path, batch: int, threads: int) -> Work:
    import cv2

    cv2.setNumThreads(threads)
    data = data_for(folder, batch)
    network = cv2.dnn.readNetFromONNX(str(folder / "peer.onnx"))

    def work() -> object:
        network.setInput(data, "images")
        return decode(*network.forward(["cls_prob", "boxes"]), PARAMS)

    return work


def onnx_runtime(kind: str, folder: Path, batch: int, threads: int) -> Work:
    import onnxruntime

    data = data_for(folder, batch)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(folder / "peer.onnx"), settings, providers=["CPUExecutionProvider"])
    return lambda: decode(*session.run(["cls_prob", "boxes"], {"images": data}), PARAMS)


def matrix(kind: str, folder: Path, batch: int, threads: int) -> Work:
    first, second = np.random.default_rng(0).normal(0, 1, (2, MATRIX_SIDE, MATRIX_SIDE)).astype(np.float32)
    return lambda: first @ second


KINDS: dict[str, Callable[[str, Path, int, int], Work]] = {
    "mxnet": plain_mxnet,
    "torch": pytorch,
    "torch-channels-last": pytorch,
    "torch-compiled": pytorch,
    "opencv": opencv,
    "onnxruntime": onnx_runtime,
    "matrix": matrix,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
