"""Weights of the original mxnet-ssd: .params files that say nothing of their network, under its names, old or new.

Its first VGG networks had names of their own for what was called otherwise later: conv6 is fc6, conv8_1 the first
convolution of multi_feat_2, relu8_2_cls_pred_conv the predictor on top of its second one, and so on.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ssd.checkpoint.graph_file import load_graph
from ssd.checkpoint.model import PARAMS_NAME, Model, ModelSpec, Params, load_params, stamped, symbol_file
from ssd.config.parts import NetworkConfig
from ssd.config.paths import CONF
from ssd.mxnet_compat import mx
from ssd.symbol.graphs import build_test
from ssd.symbol.head import head_layers
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

COMPAT = "mxnet_ssd"
LEGACY_OFFSET = 6  # conv8_1 belongs to multi_feat_2
FIRST_EXTRA = 8
PREDICTOR = re.compile(r".+_cls_pred_conv_bias")
PUBLISHED = "voc07"  # dataset of the published networks


def released_model(model: str, network: NetworkConfig, classes: Sequence[str] | None) -> Model | None:
    """The model behind `model` if its file needs the configuration to be understood; None if it speaks for itself.

    Its graph is that of the symbol file beside it (for training, testing or deployment alike), or else the one that
    backbone=, data_shape= and compat=mxnet_ssd name. classes: the configured ones, taken where it has as many.
    Errors: UserError when these are not given or do not fit.
    """
    path = Path(model)
    if not PARAMS_NAME.fullmatch(path.name) or not path.is_file():
        return None
    file = symbol_file(path)
    symbol = load_graph(file, network.input.shape) if file.is_file() else None
    if symbol is not None and stamped(symbol, file) is not None:
        return None
    if network.compat != COMPAT:
        raise UserError(
            f"model {path}: says nothing of its network, classes and input; for weights of the original mxnet-ssd add "
            "backbone=… data_shape=… compat=mxnet_ssd"
        )
    params = load_params(path)
    if symbol is None:
        symbol, params = configured(network, params, path)
        kind = f"network of backbone={network.backbone.name} data_shape={network.input.name}"
    else:
        kind = f"{'training' if 'label' in symbol.list_arguments() else 'test or deploy'} graph of {file.name}"
    names = class_names(classes, count_classes(symbol, network, path), path)
    log.info("model %s: %s, %d classes", path, kind, len(names))
    return Model(ModelSpec.from_config(network, names), symbol, *params)


def configured(network: NetworkConfig, params: tuple[Params, Params], path: Path) -> tuple[Any, tuple[Params, Params]]:
    """The network that the configuration names, for as many classes as the parameters have, and these under its names.

    Errors: UserError when there is no predictor among them, or one of another number of anchors.
    """
    first = next(name for name in build_test(network, 1).list_arguments() if PREDICTOR.fullmatch(name))
    found = renamed_one(first, params[0])
    if found is None:
        raise UserError(
            f"model {path}: has no {first}; it is no detector, or of another network than "
            f"backbone={network.backbone.name}"
        )
    filters, anchors = params[0][found].shape[0], head_layers(network)[0].anchors_per_cell
    if filters % anchors or filters < 2 * anchors:
        raise UserError(f"model {path}: {found} has {filters} numbers, which {anchors} anchors per cell do not divide")
    symbol = build_test(network, filters // anchors - 1)
    return symbol, renamed(params, symbol)


def count_classes(symbol: Any, network: NetworkConfig, path: Path) -> int:
    """Classes, without the background, that a graph tells apart. Errors: UserError when it is no detector's."""
    internals = symbol.get_internals()
    if "multibox_cls_pred_output" not in internals.list_outputs():
        raise UserError(f"model {path}: the symbol file beside it is no SSD network")
    try:
        scores = internals["multibox_cls_pred_output"]
        _, shapes, _ = scores.infer_shape(data=(1, 3, *network.input.shape))
    except mx.base.MXNetError as error:
        raise UserError(f"model {path}: its graph does not take data_shape={network.input.name}") from error
    return int(shapes[0][1]) - 1


def class_names(configured: Sequence[str] | None, count: int, path: Path) -> list[str]:
    """Those of the dataset if it has as many; the published networks were trained on PASCAL VOC. Errors: UserError."""
    published: Any = OmegaConf.load(CONF / "dataset" / f"{PUBLISHED}.yaml").classes
    for names in (configured, published):
        if names is not None and len(names) == count:
            return list(names)
    raise UserError(f"model {path}: tells {count} classes apart; name them, e.g. with dataset= or dataset.classes=[…]")


def renamed(params: tuple[Params, Params], symbol: Any) -> tuple[Params, Params]:
    """The parameters, those of the graph under the names that it gives them."""
    args = dict(params[0])
    changed = {}
    for name in symbol.list_arguments():
        source = renamed_one(name, params[0])
        if source is not None and source != name:
            args[name] = args.pop(source)
            changed[source] = name
    if changed:
        old, new = next(iter(changed.items()))
        log.info("%d parameters renamed, like %s to %s", len(changed), old, new)
    return args, params[1]


def renamed_one(name: str, have: Params) -> str | None:
    """What a parameter of the graph is called among those that there are; None when it is not there."""
    return next((known for known in (name, to_legacy(name), to_current(name)) if known in have), None)


def to_current(name: str) -> str:
    """conv8_2_weight -> multi_feat_2_conv_3x3_conv_weight."""
    if match := re.fullmatch(r"conv([67])_(weight|bias)", name):
        return f"fc{match[1]}_{match[2]}"
    if (match := re.fullmatch(r"conv(\d+)_([12])_(weight|bias)", name)) and int(match[1]) >= FIRST_EXTRA:
        side = "1x1" if match[2] == "1" else "3x3"
        return f"multi_feat_{int(match[1]) - LEGACY_OFFSET}_conv_{side}_conv_{match[3]}"
    if (match := re.fullmatch(r"relu(\d+)_2_(\w+)", name)) and int(match[1]) >= FIRST_EXTRA:
        return f"multi_feat_{int(match[1]) - LEGACY_OFFSET}_conv_3x3_relu_{match[2]}"
    return name


def to_legacy(name: str) -> str:
    """The other way; the last layer at 512 pixels, 4x4 there, counts as a second convolution, too."""
    if match := re.fullmatch(r"fc([67])_(weight|bias)", name):
        return f"conv{match[1]}_{match[2]}"
    if match := re.fullmatch(r"multi_feat_(\d+)_conv_(\d)x\2_(conv|relu)_(\w+)", name):
        number = int(match[1]) + LEGACY_OFFSET
        if match[3] == "relu":
            return f"relu{number}_2_{match[4]}"
        return f"conv{number}_{1 if match[2] == '1' else 2}_{match[4]}"
    return name
