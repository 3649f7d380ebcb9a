"""The networks that are measured, in the forms of `ssd.export.formats`."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd.checkpoint.model import Model, ModelSpec
from ssd.config.parts import DeviceConfig, NetworkConfig
from ssd.detection.detector import Detector
from ssd.detection.onnx_file import OnnxModel
from ssd.detection.open_model import KINDS, open_model
from ssd.export.formats import FORMATS, Calibration
from ssd.mxnet_compat import contexts, mx
from ssd.symbol import build_test
from ssd.utils.errors import UserError

AS_IS = "as_is"  # of model=, whatever it is
NAMES = (*FORMATS, AS_IS)
CALIBRATED_ON = 2  # images of noise: speed does not depend on what they show


def check_format(name: str) -> None:
    """Errors: UserError for a format there is none of."""
    if name not in NAMES:
        raise UserError(f"job.formats: {name!r} is no format, choose from {', '.join(NAMES)}")


@dataclass(frozen=True)
class Subject:
    """What is measured: `model`, as model= takes it, or with None the network with random weights, for `classes` (a
    number of them, as text)."""

    network: NetworkConfig
    model: str | None
    classes: str
    device: DeviceConfig


def write_network(subject: Subject, format_: str, folder: Path) -> str:
    """The network in a format, in a folder; returns what `model=` takes.

    Errors: UserError when it cannot be built or has no such form.
    """
    check_format(format_)
    if format_ == AS_IS:
        if subject.model is None:
            raise UserError(f"job.formats: {AS_IS} needs model=: {KINDS}")
        return subject.model
    model = random_model(subject) if subject.model is None else open_model(subject.model)
    if isinstance(model, OnnxModel):
        raise UserError(
            f"model {subject.model} is exported already and can only be measured with job.formats=[{AS_IS}]"
        )
    path = folder / FORMATS[format_].name
    logging.disable(logging.INFO)  # of MXNet's quantization, about every layer
    shape = (1, 3, model.spec.height, model.spec.width)
    noise = np.random.default_rng(0).normal(0, 1, (CALIBRATED_ON, *shape)).astype(np.float32)
    FORMATS[format_].write(model, path, Calibration(lambda: noise, "minmax"))
    return str(path)


def random_model(subject: Subject) -> Model:
    """An untrained network. Errors: UserError for anything but a number of them."""
    count = subject.classes
    if not count.isdecimal() or int(count) < 1:
        raise UserError(f"job.classes={count}: expected how many classes the network has, 1 or more")
    classes = [f"class {number}" for number in range(int(count))]
    spec = ModelSpec.from_config(subject.network, classes)
    graph = build_test(subject.network, len(classes))
    module = mx.mod.Module(graph, data_names=["data"], label_names=None)
    module.bind([("data", (1, 3, spec.height, spec.width))], for_training=False)
    mx.random.seed(0)
    # He et al.'s: activations keep their size, so that no layer computes with denormal numbers, which are slow.
    module.init_params(mx.init.Xavier("gaussian", "in", 2))
    return Model(spec, graph, *module.get_params())


def open_network(device: DeviceConfig, path: str, batch: int) -> Detector:
    """What `write_network` wrote."""
    return Detector(open_model(path), contexts(device)[0], batch, path)
