"""Weights of other frameworks: an .npz of named arrays, read by a table of names (conf/names/)."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ssd.engine import mx
from ssd.errors import UserError
from ssd.model import Params

MOST_BYTES = 4 << 30  # of all arrays of a file; what would fill the memory is refused before it is read
GAMMA, VARIANCE, STATISTIC = "_gamma", "_moving_var", ("_moving_mean", "_moving_var")
MXNET_EPSILON = "0.001"  # of a BatchNorm that says nothing


def load_npz(path: str | Path, names: Any, symbol: Any) -> tuple[Params, Params]:
    """Argument and auxiliary arrays under the names of `symbol`, the network they are for.

    names: {epsilon, parts: per position {ending there: ending here}, layers: {layer here: [module there, …]}}.
    Errors: UserError when the file is damaged, or lacks an array that the table names.
    """
    arrays = _read(Path(path), _table(names))
    _correct_scales(arrays, float(names["epsilon"]), symbol)
    split: tuple[Params, Params] = ({}, {})
    for name, array in arrays.items():
        split[name.endswith(STATISTIC)][name] = mx.nd.array(array)
    return split


def _table(names: Any) -> dict[str, str]:
    """Name here -> name there. Errors: UserError for what is no such table."""
    table: dict[str, str] = {}
    try:
        for layer, modules in names["layers"].items():
            for module, endings in zip(modules, names["parts"], strict=False):
                table |= {f"{layer}_{here}": f"{module}.{there}" for there, here in endings.items()}
        float(names["epsilon"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"init.names: no table as in conf/names/ ({error!r})") from error
    return table


def _read(path: Path, table: dict[str, str]) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_BYTES:
            raise UserError(f"{path}: unpacks to {size / 1e9:.0f} GB, more than the {MOST_BYTES / 1e9:.0f} GB allowed")
        with np.load(path, allow_pickle=False) as file:
            if missing := [there for there in table.values() if there not in file]:
                raise UserError(f"{path}: has no array {missing[0]!r}, which init.names asks for; is names= right?")
            return {here: np.asarray(file[there], np.float32) for here, there in table.items()}
    except FileNotFoundError as error:
        raise UserError(f"init.weights={path}: does not exist") from error
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path}: cannot be read as arrays of numbers ({str(error).splitlines()[0]})") from error


def _correct_scales(arrays: dict[str, np.ndarray], epsilon: float, symbol: Any) -> None:
    """A normalisation divides by sqrt(variance + epsilon): where ours differs, its scale makes up for it."""
    attributes = symbol.attr_dict()
    for name in [name for name in arrays if name.endswith(GAMMA)]:
        layer = name.removesuffix(GAMMA)
        if f"{layer}{VARIANCE}" in arrays:
            ours = float(attributes.get(layer, {}).get("eps", MXNET_EPSILON))
            variance = arrays[f"{layer}{VARIANCE}"]
            arrays[name] = arrays[name] * np.sqrt((variance + ours) / (variance + epsilon))
