"""Deploy bundles: a folder that plain MXNet runs, from normalized images to boxes, without this package.

    model.yaml         classes, input size, mean and std, thresholds
    ssd-symbol.json    the network; output `detection` [B, K, 6]: class or -1, score, xmin, ymin, xmax, ymax in 0..1
    ssd-0000.params    its parameters

mx.model.load_checkpoint("folder/ssd", 0) loads the two latter. Inside the graph, before suppression, are
cls_prob_output [B, C+1, N] and boxes_output [B, N, 4] (not with compat, where MultiBoxDetection does both at once).
"""

from pathlib import Path
from typing import Any

import yaml

from ssd.checkpoint.model import Model, ModelSpec, Params, check_params
from ssd.detection.bundle import DESCRIPTION, PARAMS, SYMBOL
from ssd.detection.description import BUNDLE, SENTENCES, describe
from ssd.export.suppression import check_hard, suppressed
from ssd.graph_passes.fold_constants import with_constants
from ssd.graph_passes.graph import Graph
from ssd.mxnet_compat import mx
from ssd.ops.boxes import DecodeParams
from ssd.utils.atomic_files import atomic_dir
from ssd.utils.errors import UserError

HEADING = """\
# An object detector for Apache MXNet: mx.model.load_checkpoint("ssd", 0) in this folder. `preprocessing` below leads
# from an image to its input `data`, `boxes` from its output to pixels of the image.
"""


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
    with atomic_dir(folder) as draft:
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


def _named(output: Any, name: str) -> Any:
    return output if output.name == name else mx.sym.identity(output, name=name)
