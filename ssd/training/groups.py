"""Groups of a network's parameters: which stay fixed, and how fast each learns."""

import re
from collections.abc import Mapping
from typing import Any

from ssd.config.validate import BUT_HEADS, STAGE
from ssd.utils.errors import UserError
from ssd.utils.patterns import compiled

BACKBONE, EXTRAS, HEADS = GROUPS = ("backbone", "extras", "heads")
INPUTS = ("data", "label")
PREDICTOR = re.compile(r".*_(loc|cls)_pred_conv_(weight|bias)")
CLASS_PREDICTOR = re.compile(r".*_cls_pred_conv_(weight|bias)")
EXTRA = re.compile(r"multi_feat_\d+_|.*_scale$")


def group_of(name: str) -> str:
    """heads: the predictors; extras: the layers on top of the backbone and factors of L2 normalizations."""
    if PREDICTOR.fullmatch(name):
        return HEADS
    return EXTRAS if EXTRA.match(name) else BACKBONE


def is_class_predictor(name: str) -> bool:
    return CLASS_PREDICTOR.fullmatch(name) is not None


def frozen_names(symbol: Any, freeze: str | None, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Parameters that stay fixed: those whose name starts with a match of a regex, those up to `stage:k`, or all
    `but_heads`. shapes: of the graph's inputs. Errors: UserError when it is no regex or matches nothing."""
    if not freeze:
        return []
    arguments = [name for name in symbol.list_arguments() if name not in INPUTS]
    stage = STAGE.fullmatch(freeze)
    if freeze == BUT_HEADS:
        names = [name for name in arguments if group_of(name) != HEADS]
    elif stage:
        early = _until_stage(symbol, int(stage[1]), shapes)
        names = [name for name in arguments if name in early and group_of(name) == BACKBONE]
    else:
        expression = compiled(freeze, "init.freeze")
        names = [name for name in arguments if expression.match(name)]
    if not names:
        raise UserError(f"init.freeze={freeze}: matches no parameter; they are named like {arguments[0]!r}")
    return names


def _until_stage(symbol: Any, stage: int, shapes: dict[str, tuple[int, ...]]) -> set[str]:
    """Variables of layers that give maps of 1/2^stage of the input's height or finer (rounding up)."""
    internals = symbol.get_internals()
    _, outputs, _ = internals.infer_shape(**shapes)
    least = shapes["data"][2] // 2**stage
    found: set[str] = set()
    for output, shape in zip(internals, outputs, strict=True):
        children = output.get_children()
        if children is not None and len(shape) == 4 and shape[2] >= max(least, 1):
            found |= {name for name in children.list_outputs() if not name.endswith("_output")}
    return found


def learning_rates(symbol: Any, rates: Mapping[str, float]) -> dict[str, float]:
    """Factor on the learning rate of every parameter: its group's times the graph's own (biases of the head: 2)."""
    attributes: Mapping[str, Mapping[str, str]] = symbol.attr_dict()
    return {
        name: rates[group_of(name)] * float(attributes.get(name, {}).get("__lr_mult__", 1))
        for name in symbol.list_arguments()
        if name not in INPUTS
    }


def weight_decays(symbol: Any, which: str) -> dict[str, float]:
    """Factor on the weight decay of every parameter. "weights": of convolutions alone, for every optimizer (MXNet's
    Adam would pull the scales of batch normalizations to zero); "all": of everything. The graph's own factors stay."""
    attributes: Mapping[str, Mapping[str, str]] = symbol.attr_dict()
    decays = {}
    for name in symbol.list_arguments():
        if name not in INPUTS:
            default = 1.0 if which == "all" or name.endswith("_weight") else 0.0
            decays[name] = float(attributes.get(name, {}).get("__wd_mult__", default))
    return decays
