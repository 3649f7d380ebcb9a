"""What a published file holds, under the names of the network that it is for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from ssd.checkpoint.model import PARAMS_NAME, Params, load_params
from ssd.checkpoint.param_file import read_arrays
from ssd.config.paths import CONF
from ssd.config.targets import make
from ssd.config.weights import Weights, folders
from ssd.importers.mxnet_ssd import renamed
from ssd.importers.npz import load_npz
from ssd.importers.safetensors import read_safetensors
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError, did_you_mean
from ssd.utils.plain_yaml import read_yaml
from ssd.weights.layouts import layers_by_name
from ssd.weights.mapper import Layer, Mapped, Normalization, adapt_input, layers_of, places_of, put

PREFIX = "zoo_"  # of names of a network of gluon's model zoo


@dataclass(frozen=True)
class Target:
    """The backbone that weights are for. network: backbone.network; normalization: of its input."""

    network: Mapping[str, Any]
    normalization: Normalization


@dataclass(frozen=True)
class Read:
    """Parameters, named as the backbone has them. adapted: statistics of its input were made to fit the images here."""

    arg_params: Params
    aux_params: Params
    adapted: bool = False


def read_backbone(entry: Weights, path: Path, target: Target) -> Read:
    """The weights in a file of an entry, for a backbone. Errors: UserError when they are damaged or do not fit."""
    with mx.name.NameManager():
        build = make(target.network, "backbone", "backbone.network", _partial_=True, _convert_="all")
        symbol = build(mx.sym.Variable("data"))
    try:
        places = places_of(symbol)
        mapped = put(_layers(entry, path, symbol), places, entry.partial)
        theirs = None if entry.mean is None or entry.std is None else Normalization(entry.mean, entry.std)
        adapted = adapt_input(mapped, places, theirs, target.normalization)
    except UserError as error:
        raise UserError(f"weights {entry.name} ({path}): {error}") from error
    return _as_read(mapped, adapted)


def _as_read(mapped: Mapped, adapted: bool) -> Read:
    args, aux = ({name: mx.nd.array(array) for name, array in part.items()} for part in (mapped.args, mapped.aux))
    return Read(args, aux, adapted)


def _layers(entry: Weights, path: Path, symbol: Any) -> Sequence[Layer]:
    """The layers of the file, in order. symbol: the backbone here, whose names some formats have."""
    if entry.format == "npz":
        layers = layers_of(symbol, _plain(load_npz(path, _names(entry), symbol)))
        return [replace(layer, fixed=False) for layer in layers]  # its scales count, whatever becomes of them here
    if entry.format == "mxnet":
        return layers_of(symbol, _plain(renamed(read_params(path), symbol)))
    arrays = read_safetensors(path) if entry.format == "safetensors" else _numbers(read_arrays(path))
    if entry.layout is not None:
        return layers_by_name(entry.layout, arrays, entry.epsilon)
    if entry.architecture is None:
        raise UserError(f"{entry.path}: expected architecture or layout, format={entry.format} has no graph")
    return _gluon_layers(entry.architecture, arrays)


def read_params(path: Path) -> tuple[Params, Params]:
    """Of a file prefix-0000.params. Errors: UserError."""
    if not PARAMS_NAME.fullmatch(path.name):
        raise UserError(f"{path.name}: expected a name such as prefix-0000.params")
    return load_params(path)


def _plain(params: tuple[Params, Params]) -> dict[str, np.ndarray]:
    return _numbers({**params[0], **params[1]})


def _numbers(arrays: Params) -> dict[str, np.ndarray]:
    return {name: array.asnumpy().astype(np.float32) for name, array in arrays.items()}


def _names(entry: Weights) -> Any:
    """The table of names that an .npz is read by: a file of conf/weight_map."""
    if entry.weight_map is None:
        raise UserError(f"{entry.path}: weight_map: expected a file of conf/weight_map for format=npz")
    places = [*(folder.with_name("weight_map") for folder in folders()), CONF / "weight_map"]
    file = next((file for place in places if (file := place / f"{entry.weight_map}.yaml").is_file()), None)
    if file is None:
        raise UserError(f"{entry.path}: weight_map={entry.weight_map}: no such file in conf/weight_map")
    return OmegaConf.create(read_yaml(file, "a table of names"))


def _gluon_layers(architecture: str, arrays: Mapping[str, np.ndarray]) -> list[Layer]:
    """Of a file that gluon wrote for a network of its zoo: names are paths of blocks (features.0.weight), or before
    MXNet 1.2 names without that of the network (conv0_weight)."""
    zoo = mx.gluon.model_zoo.vision
    try:
        network = zoo.get_model(architecture, prefix=PREFIX)
    except ValueError as error:
        known = sorted(name for name in dir(zoo) if name[0] != "_")
        raise UserError(f"architecture={architecture}: not in gluon's model zoo; {did_you_mean(architecture, known)}") \
            from error  # fmt: skip
    if any("." in name for name in arrays):
        by_path = network._collect_params_with_prefix()
        named = {by_path[name].name: array for name, array in arrays.items() if name in by_path}
    else:
        named = {f"{PREFIX}{name}": array for name, array in arrays.items()}
    return layers_of(network.features(mx.sym.Variable("data")), named)
