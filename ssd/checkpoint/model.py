"""Trained models on disk: finding one behind `model=`, reading it safely, and what it says of itself.

A checkpoint is two files as MXNet names them, prefix-symbol.json and prefix-NNNN.params. Everything else that is needed
to use it (class names, input size, normalization, decoding) travels inside the symbol file, as an attribute of its
`data` variable, so that a copied checkpoint is complete and no job asks for these again.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssd.checkpoint.graph_file import SPEC_ATTRIBUTE, graph_errors, load_graph
from ssd.checkpoint.index import FOLDER, NAME, check_file, read_index
from ssd.checkpoint.param_file import read_arrays
from ssd.config.parts import InputSpec, network_config
from ssd.ops.boxes import DecodeParams
from ssd.utils.errors import UserError, first_few

EARLIER = {"soft_nms": None, "sigma": 0.5, "flip": False}  # what checkpoints meant that do not say these
MAX_TOLD = 4  # parameters in one message
MAX_SIDE = 16_384  # pixels of an input, against files that ask for all memory
MAX_CLASSES = 100_000
COMPATS = (None, "mxnet_ssd")
RESIZE_MODES = ("force", "fit")
PARAMS_NAME = re.compile(
    r"(?P<prefix>.+)-(?P<epoch>\d{4,})(\+\d+)?\.params"
)  # after a whole epoch, or so many steps more

Params = dict[str, Any]  # name -> mx.nd.NDArray


def symbol_file(params: Path) -> Path:
    """prefix-symbol.json beside a file that is called prefix-NNNN.params, as PARAMS_NAME has it."""
    match = PARAMS_NAME.fullmatch(params.name)
    assert match, params
    return params.with_name(f"{match['prefix']}-symbol.json")


@dataclass(frozen=True)
class ModelSpec:
    """What a user of the weights must know. Input: RGB, (x - mean) / std of 0..255, resized as resize_mode says.

    antialias: whether it was trained on averages of large images, see InputSpec.
    category_ids: the number of each class in the dataset it was trained on, where that numbers them otherwise (COCO).
    """

    classes: list[str]
    height: int
    width: int
    mean: list[float]
    std: list[float]
    backbone: str
    variances: list[float]
    compat: str | None
    detection: dict[str, Any]
    antialias: bool
    channel_order: str = "RGB"
    category_ids: list[int] | None = None
    resize_mode: str = "force"  # the only one there was before this key

    @classmethod
    def from_config(cls, cfg: Any, classes: Sequence[str], category_ids: Sequence[int] | None = None) -> "ModelSpec":
        """cfg: what ssd.config.compose() returns, or a NetworkConfig."""
        network = network_config(cfg)
        return cls(
            classes=list(classes),
            height=network.input.height,
            width=network.input.width,
            mean=list(network.input.mean),
            std=list(network.input.std),
            backbone=network.backbone.name,
            variances=list(network.head.variances),
            compat=network.compat,
            detection=asdict(network.detection),
            antialias=network.input.antialias,
            category_ids=None if category_ids is None else list(category_ids),
            resize_mode=network.input.resize_mode,
        )

    @property
    def input(self) -> InputSpec:
        """What preprocess() needs."""
        return InputSpec(self.height, self.width, tuple(self.mean), tuple(self.std), self.resize_mode, self.antialias)


def earlier_antialias(compat: str | None) -> bool:
    """What inference did with models that do not say whether they want averages."""
    return compat is None


@dataclass(frozen=True)
class Model:
    """A graph in train or test form with its weights."""

    spec: ModelSpec
    symbol: Any
    arg_params: Params
    aux_params: Params


def attach_spec(symbol: Any, spec: ModelSpec) -> Any:
    """Writes the spec into the graph's `data` variable (in place); returns the symbol."""
    symbol.get_internals()["data"]._set_attr(**{SPEC_ATTRIBUTE: json.dumps(asdict(spec), sort_keys=True)})
    return symbol


def stamped(symbol: Any, path: Path) -> str | None:
    """What a graph out of a file carries of its spec, as text. Errors: UserError for a graph that cannot be read."""
    with graph_errors(str(path)):
        text: str | None = symbol.attr_dict().get("data", {}).get(SPEC_ATTRIBUTE)
    return text


def spec_of(symbol: Any, path: Path) -> ModelSpec:
    """The spec a graph carries. Errors: UserError when there is none or it is not of this form."""
    text = stamped(symbol, path)
    if text is None:
        raise UserError(f"{path}: says nothing of its classes and input; it was not written by this package")
    try:
        content = json.loads(text)
        content.setdefault("antialias", earlier_antialias(content.get("compat")))
        spec = ModelSpec(**content)
        return checked(replace(spec, detection={**EARLIER, **spec.detection}))
    except (ValueError, TypeError, AttributeError, RecursionError, UserError) as error:
        raise UserError(f"{path}: its model description cannot be read ({str(error)[:200]})") from error


def checked(spec: ModelSpec) -> ModelSpec:
    """The spec, whoever wrote the file it is out of. Errors: ValueError, TypeError, UserError naming what is wrong."""
    _check_texts(spec)
    for name in ("height", "width"):
        if not _is_whole(side := getattr(spec, name)) or not 1 <= side <= MAX_SIDE:
            raise ValueError(f"{name}: an input side of {side!r} pixels")
    for name, count in (("mean", 3), ("std", 3), ("variances", 4)):
        values = getattr(spec, name)
        if not isinstance(values, list) or len(values) != count or not all(map(_is_number, values)):
            raise ValueError(f"{name}: {str(values)[:60]} instead of {count} finite numbers")
        if name != "mean" and min(values) <= 0:
            raise ValueError(f"{name}: {values} must be above 0")
    if spec.channel_order != "RGB":
        raise ValueError(f"channel_order: {spec.channel_order!r} instead of RGB")
    if spec.compat not in COMPATS or spec.resize_mode not in RESIZE_MODES:
        raise ValueError("compat or resize_mode has a value this version does not know")
    if not isinstance(spec.antialias, bool):
        raise ValueError(f"antialias: {spec.antialias!r} instead of true or false")
    ids = spec.category_ids
    if ids is not None and not (isinstance(ids, list) and len(ids) == len(spec.classes) and all(map(_is_whole, ids))):
        raise ValueError("category_ids are not a whole number for each class")
    if _detects(spec):
        DecodeParams(**spec.detection)
        _check_thresholds(spec.detection)
    return spec


def _check_texts(spec: ModelSpec) -> None:
    classes = spec.classes
    if not isinstance(classes, list):
        raise ValueError("classes is no list")
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise ValueError(f"{len(classes)} classes")
    if not all(isinstance(name, str) for name in (*classes, spec.backbone)):
        raise ValueError("classes or backbone are not all text")
    if not all(classes) or (_detects(spec) and len(set(classes)) < len(classes)):  # ImageNet has two cranes
        raise ValueError("classes are not all different, or one has no name")


def _detects(spec: ModelSpec) -> bool:
    """Whether it has thresholds: a converted classifier has none."""
    return bool(spec.detection.keys() - EARLIER.keys())


def _check_thresholds(detection: dict[str, Any]) -> None:
    """What DecodeParams takes from a configuration, whose types are known."""
    whole = all(_is_whole(detection[name]) for name in ("topk", "keep"))
    if not whole or not all(_is_number(detection[name]) for name in ("score", "nms", "sigma")):
        raise ValueError("detection: topk or keep is no whole number, or score, nms or sigma no finite one")
    if not isinstance(detection["flip"], bool):
        raise ValueError(f"detection.flip: {detection['flip']!r} instead of true or false")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def find_params(path: str | Path) -> Path:
    """The parameter file behind a run directory (its best checkpoint, the last before one is measured) or a file name.

    Errors: UserError when there is nothing, or a directory without checkpoints.
    """
    path = Path(path)
    if path.is_dir():
        for folder in (path / FOLDER, path):
            index = folder / NAME
            if index.is_file():
                found = read_index(index)
                name = found.get("best", found["last"])["params"]
                if not PARAMS_NAME.fullmatch(name):
                    raise UserError(f"{index}: damaged ({name[:60]!r} is no name of parameters)")
                return folder / name
        if (bundled := path / "ssd-0000.params").is_file():  # of a deploy bundle
            return bundled
        raise UserError(f"model {path}: no {NAME} here or in {FOLDER}/; name a run directory or a .params file")
    if not path.is_file():
        raise UserError(f"model {path}: does not exist; name a run directory or a prefix-0012.params file")
    if not PARAMS_NAME.fullmatch(path.name):
        raise UserError(f"model {path}: expected a name such as prefix-0012.params")
    return path


def load_params(path: str | Path) -> tuple[Params, Params]:
    """Argument and auxiliary arrays of a checkpoint. Errors: UserError when the file is damaged or not parameters."""
    file = find_params(path)
    check_file(file)
    arrays = read_arrays(file)
    if not arrays:
        raise UserError(f"{file}: holds no named parameters")
    if stray := [name for name in arrays if name[:4] not in ("arg:", "aux:")]:
        raise UserError(f"{file}: {stray[0]!r} is neither an arg: nor an aux: array")
    if whole := [name for name, array in arrays.items() if np.dtype(array.dtype).kind in "iub"]:
        raise UserError(f"{file}: {whole[0]!r} holds {np.dtype(arrays[whole[0]].dtype)}, weights are floating numbers")
    split: dict[str, Params] = {"arg:": {}, "aux:": {}}
    for name, array in arrays.items():
        split[name[:4]][name[4:]] = array
    return split["arg:"], split["aux:"]


def load_model(path: str | Path) -> Model:
    """A trained model from a run directory or a prefix-0012.params file with prefix-symbol.json beside it.

    Errors: UserError when files are missing or damaged, or when parameters do not fit the graph.
    """
    file = find_params(path)
    graph = symbol_file(file)
    if not graph.is_file():
        raise UserError(f"{graph}: missing; a checkpoint is this file and {file.name} together")
    symbol = load_graph(graph)
    spec = spec_of(symbol, graph)
    arg_params, aux_params = load_params(file)
    return Model(spec, symbol, arg_params, aux_params)


def check_params(symbol: Any, model: Model, source: str) -> None:
    """Every parameter of `symbol` must be in the model with the right shape. Errors: UserError naming those that are
    missing or differ."""
    spec = model.spec
    with graph_errors(f"model {source}"):
        shapes, _, aux_shapes = symbol.infer_shape(data=(1, 3, spec.height, spec.width))
        wanted = dict(zip(symbol.list_arguments(), shapes, strict=True))
        wanted.update(zip(symbol.list_auxiliary_states(), aux_shapes, strict=True))
        del wanted["data"]
    have = {**model.arg_params, **model.aux_params}
    missing = [name for name in wanted if name not in have]
    differing = [
        f"{name} has shape {tuple(have[name].shape)}, its graph needs {tuple(shape)}"
        for name, shape in wanted.items()
        if name in have and tuple(have[name].shape) != tuple(shape)
    ]
    reasons = [f"missing: {first_few(missing, MAX_TOLD)}"] if missing else []
    reasons += [first_few(differing, MAX_TOLD, "; ")] if differing else []
    if reasons:
        raise UserError(f"model {source}: parameters that do not fit its graph: {'; '.join(reasons)}")
