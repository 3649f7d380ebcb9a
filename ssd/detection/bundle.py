"""Reading a deploy bundle: its description, its graph and its arrays."""

from pathlib import Path
from typing import Any

from ssd.checkpoint.graph_file import graph_errors, load_graph
from ssd.checkpoint.model import Model, ModelSpec, load_params
from ssd.detection.description import read_description
from ssd.mxnet_compat import mx
from ssd.symbol.multibox import MultiBox, decode_boxes
from ssd.utils.errors import UserError
from ssd.utils.plain_yaml import read_yaml

DESCRIPTION = "model.yaml"
SYMBOL = "ssd-symbol.json"
PARAMS = "ssd-0000.params"


def is_bundle(path: Path) -> bool:
    return (path / DESCRIPTION).is_file()


def read_bundle(folder: Path, finished: bool | None = None) -> Model:
    """A bundle as a model whose graph gives either [cls_prob, boxes], or if `finished` its own detection, which is what
    compat takes when nothing is said.

    Errors: UserError when a file is missing or damaged.
    """
    spec = read_description(read_yaml(folder / DESCRIPTION, "a description of a model"), folder / DESCRIPTION)
    symbol = load_graph(folder / SYMBOL, (spec.height, spec.width))
    arg_params, aux_params = load_params(folder / PARAMS)
    if symbol.list_outputs() != ["detection_output"]:
        raise UserError(f"{folder / SYMBOL}: its output is not detection; it is not a bundle of this package")
    if not (spec.compat is not None if finished is None else finished):
        with graph_errors(str(folder / SYMBOL)):
            symbol = _opened(symbol, spec, folder / SYMBOL)
    return Model(spec, symbol, arg_params, aux_params)


def _opened(symbol: Any, spec: ModelSpec, path: Path) -> Any:
    """The graph before suppression: [cls_prob, boxes]."""
    if spec.compat:
        inputs = symbol.get_children()  # of MultiBoxDetection, which decodes and suppresses at once
        if inputs is None or len(inputs.list_outputs()) != 3:
            raise UserError(f"{path}: does not end in MultiBoxDetection; it is not a bundle of this package")
        return mx.sym.Group([inputs[0], decode_boxes(MultiBox(inputs[0], inputs[1], inputs[2]), spec.variances)])
    inside = symbol.get_internals()
    if missing := {"cls_prob_output", "boxes_output"} - set(inside.list_outputs()):
        raise UserError(f"{path}: has no {min(missing)}; it is not a bundle of this package")
    return mx.sym.Group([inside["cls_prob_output"], inside["boxes_output"]])
