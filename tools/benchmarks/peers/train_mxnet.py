"""A training step on MXNet, ours or as the original mxnet-ssd does it.

train_mxnet.py ours|original NETWORK SHAPE BATCH
"""

import contextlib
import importlib
import os
import sys
from types import SimpleNamespace

import numpy as np
from turns import serve

if os.environ.pop("SSD_THREADS", None) == "unset":
    # What OpenMP takes when nobody says anything, and what MXNet imports where it is installed.
    os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
    os.environ["GOMP_SPINCOUNT"] = "300000"
    for name in ("sklearn.base", "scipy.sparse", "scipy.stats"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)

from ssd.config.compose import compose
from ssd.config.parts import trainer_config
from ssd.mxnet_compat import mx
from ssd.symbol import build_train
from ssd.training.trainer import Trainer

ORIGINAL_ROWS = 58  # label_pad_width 350
ROWS = 42  # the fullest image of VOC 2007
OBJECTS = 3


def main(who: str, network: str, shape: str, batch_size: str) -> None:
    overrides = [f"backbone={network}", f"data_shape={shape}", "dataset=voc0712", "dataset.root=.", "optimizer=sgd",
             "optimizer.learning_rate=0.0001", f"batch_size={batch_size}"]  # fmt: skip
    cfg = compose([*overrides, "compat=mxnet_ssd"] if who == "original" else overrides)
    pixels, label = images(int(batch_size), cfg.data_shape.height, ORIGINAL_ROWS if who == "original" else ROWS)
    serve((original if who == "original" else ours)(cfg, pixels, label))


def images(count: int, side: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [B, 3, S, S] and labels float32 [B, rows, 6], three objects in each."""
    rng = np.random.default_rng(0)
    label = np.full((count, rows, 6), -1, np.float32)
    low = rng.uniform(0, 0.5, (count, OBJECTS, 2))
    label[:, :OBJECTS, 0] = rng.integers(0, 20, (count, OBJECTS))
    label[:, :OBJECTS, 1:3] = low
    label[:, :OBJECTS, 3:5] = low + rng.uniform(0.1, 0.5, (count, OBJECTS, 2))
    label[:, :OBJECTS, 5] = 0
    return rng.integers(0, 256, (count, 3, side, side), dtype=np.uint8), label


def ours(cfg, pixels, label):
    shapes = SimpleNamespace(
        provide_data=[mx.io.DataDesc("data", pixels.shape, "uint8")],
        provide_label=[mx.io.DataDesc("label", label.shape)],
    )
    mx.random.seed(0)
    trainer = Trainer(trainer_config(cfg), cfg.dataset.classes, shapes, 1000)

    def step():
        batch = mx.io.DataBatch([mx.nd.from_numpy(pixels.copy())], [mx.nd.array(label)], 0,
                                provide_data=shapes.provide_data, provide_label=shapes.provide_label)  # fmt: skip
        trainer.step(batch)
        mx.nd.waitall()

    return step


def original(cfg, pixels, label):
    module = mx.mod.Module(build_train(cfg), label_names=("label",))
    module.bind([("data", pixels.shape)], [("label", label.shape)])
    mx.random.seed(0)
    module.init_params(mx.init.Xavier())
    module.init_optimizer("local", "sgd", {"learning_rate": 0.0001, "momentum": 0.9, "wd": 0.0005, "rescale_grad": 1.0})
    mean = np.float32([123, 117, 104]).reshape(3, 1, 1)

    def step():
        batch = mx.io.DataBatch([mx.nd.array(pixels - mean)], [mx.nd.array(label)])
        module.forward_backward(batch)
        module.update()
        # Its metric has the probabilities of all anchors copied to the host.
        cls_prob, loc_loss, cls_label = (output.asnumpy() for output in module.get_outputs()[:3])
        learns = cls_label.ravel() >= 0
        chosen = cls_prob.transpose(0, 2, 1).reshape(-1, cls_prob.shape[1])[
            np.arange(cls_label.size), np.maximum(cls_label.ravel(), 0).astype(int)
        ]
        float(-np.log(chosen[learns] + 1e-10).sum() + loc_loss.sum())
        mx.nd.waitall()

    return step


if __name__ == "__main__":
    main(*sys.argv[1:])
