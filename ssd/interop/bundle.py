"""Deploy bundles: a folder that plain MXNet runs, from normalised pictures to boxes, without this package.

    model.yaml         classes, input size, mean and std, thresholds
    ssd-symbol.json    the network; output `detection` [B, K, 6]: class or -1, score, xmin, ymin, xmax, ymax in 0..1
    ssd-0000.params    its parameters

mx.model.load_checkpoint("folder/ssd", 0) loads the two latter. Inside the graph, before suppression, are
cls_prob_output [B, C+1, N] and boxes_output [B, N, 4] (not with compat, where MultiBoxDetection does both at once).
"""

from pathlib import Path
from typing import Any

import yaml

from ssd.detection.decode import DecodeParams
from ssd.engine import mx
from ssd.errors import UserError
from ssd.files import whole_folder
from ssd.graph_file import graph_errors, load_graph
from ssd.interop.constants import with_constants
from ssd.interop.description import BUNDLE, SENTENCES, describe, read_description
from ssd.interop.suppression import check_hard, suppressed
from ssd.model import Model, ModelSpec, Params, check_params, load_params
from ssd.plain_yaml import read_yaml
from ssd.symbol.decoding import decode_boxes
from ssd.symbol.multibox import MultiBox
from ssd.symbol.surgery import Graph

DESCRIPTION = "model.yaml"
SYMBOL = "ssd-symbol.json"
PARAMS = "ssd-0000.params"
HEADING = """\
# An object detector for Apache MXNet: mx.model.load_checkpoint("ssd", 0) in this folder. `preprocessing` below leads
# from an image to its input `data`, `boxes` from its output to pixels of the image.
"""


def is_bundle(path: Path) -> bool:
    return (path / DESCRIPTION).is_file()


def write_bundle(folder: Path, spec: ModelSpec, graph: Any, arg_params: Params, aux_params: Params) -> Path:
    """Writes a bundle to a new folder, whole or not at all; returns the folder.

    graph: on `data` [B, 3, H, W], outputs either [cls_prob [B, C+1, N], boxes [B, N, 4] corners in 0..1], to which
    suppression as in spec.detection is added, or a finished detection [B, K, 6]. Parameters it does not have are left
    out; what depends on anchors alone becomes one.
    Errors: UserError when the folder exists or parameters do not fit the graph.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already; remove it or name another folder")
    shape = (3, spec.height, spec.width)
    symbol, arg_params = with_constants(graph, arg_params, shape)
    if len(symbol.list_outputs()) == 2:
        symbol = with_detection(symbol, spec)
    elif symbol.list_outputs() != ["detection_output"]:
        raise UserError(f"the network answers {', '.join(symbol.list_outputs())} instead of cls_prob and boxes")
    arguments, states = set(symbol.list_arguments()), set(symbol.list_auxiliary_states())
    kept_args = {name: array for name, array in arg_params.items() if name in arguments}
    kept_aux = {name: array for name, array in aux_params.items() if name in states}
    check_params(symbol, Model(spec, symbol, kept_args, kept_aux), str(folder))
    quantized = any("quantize" in node.op for node in Graph.of(symbol).nodes())
    precision = "int8" if quantized else "float32"
    with whole_folder(folder) as draft:
        (draft / DESCRIPTION).write_text(HEADING + _as_yaml(describe(spec, precision, BUNDLE)), encoding="utf-8")
        symbol.save(str(draft / SYMBOL))
        arrays = {f"arg:{name}": array for name, array in kept_args.items()}
        arrays |= {f"aux:{name}": array for name, array in kept_aux.items()}
        mx.nd.save(str(draft / PARAMS), arrays)
    return folder


def _as_yaml(description: dict[str, Any]) -> str:
    """Sentences a line each, then what programs read, lists in one line."""
    sentences = {key: value for key, value in description.items() if key in SENTENCES}
    numbers = {key: value for key, value in description.items() if key not in SENTENCES}
    return "".join(
        yaml.safe_dump(part, sort_keys=False, allow_unicode=True, width=118, default_flow_style=style)
        for part, style in ((sentences, False), (numbers, None))
    )


def with_detection(graph: Any, spec: ModelSpec) -> Any:
    """A graph of cls_prob and boxes with suppression on top; the two can be found inside by these names."""
    params = DecodeParams(**spec.detection)
    check_hard(params)
    cls_prob, boxes = (_named(graph[index], name) for index, name in enumerate(("cls_prob", "boxes")))
    (batch, classes, anchors), _ = mx.sym.Group([cls_prob, boxes]).infer_shape(data=(1, 3, spec.height, spec.width))[1]
    if classes != len(spec.classes) + 1:
        raise UserError(f"the network tells {classes - 1} classes apart, {len(spec.classes)} are named")
    return suppressed(cls_prob, boxes, params, (classes - 1, anchors))


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


def _named(output: Any, name: str) -> Any:
    return output if output.name == name else mx.sym.identity(output, name=name)
