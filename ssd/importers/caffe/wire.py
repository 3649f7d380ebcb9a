"""Arrays out of Caffe's binary files (caffemodel, binaryproto), read as protobuf's wire format without copies.

Only what a converter needs is looked at: layers' names and their blobs. The options that a fork numbers differently are
passed over, and a file can make nothing larger than itself, because arrays are views into it.

Numbers of fields after Caffe's published format: NetParameter layers 2 (old files) and layer 100; LayerParameter name
1, blobs 7; V1LayerParameter name 4, blobs 6; BlobProto num, channels, height, width 1 to 4, data 5, shape 7,
double_data 8; BlobShape dim 1.
"""

from itertools import count
from math import prod
from pathlib import Path

import numpy as np

from ssd.utils.atomic_files import read_limited
from ssd.utils.errors import UserError
from ssd.utils.protobuf import View, WireError, fields, varint

MAX_BYTES = 1 << 30
MAX_LAYERS = 5000
MAX_BLOBS = 16  # of one layer
MAX_DIMENSIONS = 8
MAX_SIDE = 1 << 31
MAX_PARTS = 1 << 20  # of one array

NAME_AND_BLOBS = {100: (1, 7), 2: (4, 6)}  # by the field that holds the layer

Weights = dict[str, list[np.ndarray]]


def read_weights(path: Path) -> Weights:
    """The arrays of each layer that has any, float32, read-only. Errors: UserError when the file is no caffemodel."""
    weights: Weights = {}
    layers = 0
    try:
        seen = count()
        for number, value in fields(_open(path, "caffemodel"), seen):
            if number in NAME_AND_BLOBS and isinstance(value, View):
                layers += 1
                if layers > MAX_LAYERS:
                    raise WireError(f"more than {MAX_LAYERS} layers")
                name, blobs = _layer(value, NAME_AND_BLOBS[number], seen)
                if blobs:
                    weights[name] = blobs
    except WireError as error:
        raise UserError(f"{path}: no caffemodel, or damaged ({error})") from error
    if not layers:
        raise UserError(f"{path}: no caffemodel, it holds no layers")
    return weights


def read_mean(path: Path) -> np.ndarray:
    """A mean image (mean.binaryproto), float32 [C, H, W] in the file's order of channels. Errors: UserError."""
    try:
        blob = _blob(_open(path, "binaryproto"), count())
    except WireError as error:
        raise UserError(f"{path}: no binaryproto, or damaged ({error})") from error
    if blob.ndim == 4 and blob.shape[0] == 1:
        blob = blob[0]
    if blob.ndim != 3 or not blob.size:
        raise UserError(f"{path}: holds an array {blob.shape}, expected an image of channels x height x width")
    return blob


def _open(path: Path, kind: str) -> View:
    try:
        return View(read_limited(path, MAX_BYTES, f"a {kind}"))
    except OSError as error:
        raise UserError(f"{path}: cannot read the {kind}: {error.strerror}") from error


def _layer(message: View, numbers: tuple[int, int], seen: "count[int]") -> tuple[str, list[np.ndarray]]:
    """numbers: of the fields of name and blobs. seen: see fields."""
    name_field, blobs_field = numbers
    name = ""
    blobs: list[np.ndarray] = []
    for number, value in fields(message, seen):
        if number == name_field and isinstance(value, View):
            name = str(value, "utf-8", "replace")
        elif number == blobs_field and isinstance(value, View):
            if len(blobs) == MAX_BLOBS:
                raise WireError(f"layer {name!r} has more than {MAX_BLOBS} arrays")
            blobs.append(_blob(value, seen))
    return name, blobs


def _blob(message: View, seen: "count[int]") -> np.ndarray:
    """BlobProto as an array; old files write four dimensions, newer ones a list."""
    sides = {1: 0, 2: 0, 3: 0, 4: 0}
    shape: list[int] | None = None
    parts: list[np.ndarray] = []
    for number, value in fields(message, seen):
        if number in sides and isinstance(value, int):
            sides[number] = value
        elif number == 7 and isinstance(value, View):
            shape = _dimensions(value, seen)
        elif number in (5, 8) and isinstance(value, View):
            parts.append(_numbers(value, 4 if number == 5 else 8))
            if len(parts) > MAX_PARTS:
                raise WireError(f"an array in more than {MAX_PARTS} parts")
    values = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])
    dimensions = list(sides.values()) if shape is None else shape
    if prod(dimensions) != len(values) or max(dimensions, default=0) > MAX_SIDE:
        raise WireError(f"an array of {'x'.join(map(str, dimensions))} holds {len(values)} numbers")
    if not np.isfinite(values).all():
        raise WireError("an array holds values that are no numbers")
    return values.reshape(dimensions)


def _numbers(data: View, size: int) -> np.ndarray:
    """Packed floats or doubles; a number that stands alone is a pack of one."""
    if len(data) % size:
        raise WireError(f"{len(data)} bytes of {size}-byte numbers")
    with np.errstate(over="ignore"):  # what does not fit is found out as infinite
        return np.frombuffer(data, f"<f{size}").astype(np.float32, copy=False)


def _dimensions(message: View, seen: "count[int]") -> list[int]:
    """BlobShape: packed or one by one."""
    dimensions: list[int] = []
    for number, value in fields(message, seen):
        if number != 1:
            continue
        if isinstance(value, int):
            dimensions.append(value)
        else:
            position = 0
            while position < len(value) and len(dimensions) <= MAX_DIMENSIONS:
                side, position = varint(value, position)
                dimensions.append(side)
        if len(dimensions) > MAX_DIMENSIONS:
            raise WireError(f"an array of more than {MAX_DIMENSIONS} dimensions")
    return dimensions
