"""Weights of other frameworks: an .npz of named arrays, read by a table of names (conf/weight_map/)."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ssd.checkpoint.model import Params
from ssd.mxnet_compat import mx
from ssd.utils.atomic_files import open_regular
from ssd.utils.errors import UserError

MOST_BYTES = 4 << 30  # of all arrays of a file; what would fill the memory is refused before it is read
MOST_RATIO = 100  # of what an array unpacks to; weights keep nine tenths of their size
SMALL = 1 << 20  # bytes of which the ratio says nothing
ARRAY = ".npy"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
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
        raise UserError(f"init.weight_map: no table as in conf/weight_map/ ({error!r})") from error
    return table


def _read(path: Path, table: dict[str, str]) -> dict[str, np.ndarray]:
    try:
        with open_regular(path) as opened, zipfile.ZipFile(opened) as archive:
            entries = {entry.filename.removesuffix(ARRAY): entry for entry in archive.infolist()}
            if missing := [there for there in table.values() if there not in entries]:
                raise UserError(f"{path}: has no array {missing[0]!r}, which weight_map= names; is that the right one?")
            budget = MOST_BYTES
            for there in table.values():
                budget -= _claimed(archive, entries[there])
                if budget < 0:
                    raise UserError(f"{path}: unpacks to more than the {MOST_BYTES / 1e9:.0f} GB allowed")
            return {here: _array(archive, entries[there]) for here, there in table.items()}
    except FileNotFoundError as error:
        raise UserError(f"init.weights={path}: does not exist") from error
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        problem = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{path}: cannot be read as arrays of numbers ({problem})") from error


def _claimed(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Bytes that an array of the file will take as float32, by its header. Errors: ValueError where that does not fit
    what the entry unpacks to, or that what the file holds of it."""
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            raise ValueError(f"{entry.filename} is of the unknown form {version}")
        shape, _, dtype = HEADERS[version](member)  # refuses long ones by itself
        if dtype.hasobject or dtype.kind not in "fiub":
            raise ValueError(f"{entry.filename} holds {dtype} instead of numbers")
        size = math.prod(shape)
        if member.tell() + size * dtype.itemsize != entry.file_size or min(shape, default=0) < 0:
            raise ValueError(f"{entry.filename} claims {shape} numbers, its {entry.file_size} bytes hold others")
    if entry.file_size > max(SMALL, MOST_RATIO * entry.compress_size):
        raise ValueError(f"{entry.filename} unpacks to {entry.file_size / 1e6:.0f} MB, more than weights can")
    return 4 * size


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as member:
        return np.asarray(np.lib.format.read_array(member, allow_pickle=False), np.float32)


def _correct_scales(arrays: dict[str, np.ndarray], epsilon: float, symbol: Any) -> None:
    """A normalization divides by sqrt(variance + epsilon): where ours differs, its scale makes up for it."""
    attributes = symbol.attr_dict()
    for name in [name for name in arrays if name.endswith(GAMMA)]:
        layer = name.removesuffix(GAMMA)
        if f"{layer}{VARIANCE}" in arrays:
            ours = float(attributes.get(layer, {}).get("eps", MXNET_EPSILON))
            variance = arrays[f"{layer}{VARIANCE}"]
            arrays[name] = arrays[name] * np.sqrt((variance + ours) / (variance + epsilon))
