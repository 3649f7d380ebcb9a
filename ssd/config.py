"""The configuration composed outside of the command line, its resolvers, and what is wrong with its values.

    from ssd.config import compose
    cfg = compose(["backbone=resnet50", "data_shape=512"])      # what the runner gets for the same words

Names and types of the keys are in ssd/schema.py, values and their comments in conf/.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from ssd import text
from ssd.errors import UserError
from ssd.limits import check_loader, check_training
from ssd.names import file_name
from ssd.recipe import check_recipe
from ssd.schema import Config

PACKAGE = Path(__file__).resolve().parent
# Beside the package in a checkout, inside it in an installed wheel.
CONF = next(folder for folder in (PACKAGE.parent / "conf", PACKAGE / "conf") if (folder / "config.yaml").is_file())

# Hydra looks for sweepers and launchers in the packages hydra_plugins.* of the path.
sys.path.append(str(PACKAGE / "sweeps" / "plugins"))

COMPAT = (None, "mxnet_ssd")
RESIZE_MODES = ("force", "fit")
LARGE_TIER_PIXELS = 448
TIME = re.compile(r"\d{4}-\d\d-\d\d_")  # of a run, whose directory is named by it
MAX_SIDE = 4096  # pixels; beyond it one image of a VGG fills a hundred gigabytes
NAMES = ("name", "root", "folder", "labels", "mirror", "out_of_range", "units", "delimiter")  # of a dataset, one each
ANCHORS_PER_POSITIVE = 4  # that mxnet-ssd divides its losses by: a positive and its three negatives; its four offsets


def _head_field(field: str, whose: str = "compat", *, _root_: DictConfig) -> Any:
    """A field of the head for this backbone and data shape; under compat the original's value where it differs, unless
    `whose` is "ours"."""
    tier = _root_.data_shape.tier
    heads = _root_.backbone.heads
    if tier not in heads:
        raise UserError(f"backbone {_root_.backbone.name} has no head for tier {tier!r}, only {', '.join(heads)}")
    for variant in (tier,) if whose == "ours" else (f"{tier}_{_root_.compat}", tier):
        if variant in heads and field in heads[variant]:
            return heads[variant][field]
    raise UserError(f"backbone {_root_.backbone.name}: heads.{tier} lacks {field}")


def _unless_compat(ours: Any, original: Any, *, _root_: DictConfig) -> Any:
    """A default that differs from the original's, which compat asks for."""
    return original if _root_.compat else ours


def _tier(height: int, width: int) -> str:
    return "large" if min(height, width) >= LARGE_TIER_PIXELS else "small"


def _shape_name(height: int, width: int) -> str:
    """Of a preset, whose sides may have been overridden."""
    return str(height) if height == width else f"{height}x{width}"


def anchor_scales(smallest: float, largest: float, layers: int) -> list[list[float]]:
    """Two anchor sizes per layer, shares of the image side: [s_k, sqrt(s_k s_(k+1))], the first layer at half of
    `smallest`, the rest evenly spaced in whole percents (SSD paper, section 2.2, as Caffe's scripts round it)."""
    low, high = round(smallest * 100), round(largest * 100)
    step = (high - low) // (layers - 2)
    base = [low / 2 // 1 / 100] + [(low + k * step) / 100 for k in range(layers)]
    return [[a, (a * b) ** 0.5] for a, b in zip(base[:layers], base[1 : layers + 1], strict=True)]


def anchor_sizes(side: float, pixels: Sequence[float]) -> list[list[float]]:
    """Two anchor sizes per layer, shares of the image side, from a list as it is published: one size in pixels of an
    image of that side per layer, and one more: [s_k, sqrt(s_k s_(k+1))] (SSD paper, section 2.2)."""
    return [[a / side, (a * b) ** 0.5 / side] for a, b in zip(pixels[:-1], pixels[1:], strict=True)]


def _gradient_factor(root: DictConfig) -> int:
    """Times that gradients of a loss are those of mxnet-ssd's, see conf/optimizer/sgd_mxnet_ssd.yaml."""
    return 1 if root.compat and root.loss.classification == "softmax" else ANCHORS_PER_POSITIVE


def _mxnet_ssd_rate(rate: float, *, _root_: DictConfig) -> float:
    """Learning rate whose steps are those of `rate` in mxnet-ssd."""
    return rate / _gradient_factor(_root_)


def _mxnet_ssd_decay(decay: float, *, _root_: DictConfig) -> float:
    """Weight decay that, beside _mxnet_ssd_rate, pulls as `decay` does in mxnet-ssd."""
    return decay * _gradient_factor(_root_)


def _run_name(*, _root_: DictConfig) -> str:
    """Folder of a run: what it trains, or the model that it takes."""
    return file_name(_subject(_root_))


def _subject(cfg: DictConfig) -> str:
    if cfg.job.name == "compare":
        return "runs"
    if cfg.job.name == "convert":
        return Path(str(cfg.job.prototxt)).stem or "network"
    model = cfg.get("model")
    if cfg.job.name == "train" or not model:
        dataset = cfg.dataset.get("name", "dataset")
        return f"{cfg.backbone.name}_{cfg.data_shape.name}_{dataset}"
    path = Path(str(model))
    run = next((folder for folder in (path, *path.parents) if (folder / "config.yaml").is_file()), None)
    if run is None:
        return path.stem or "model"
    return run.parent.name if TIME.match(run.name) and run.parent.name else run.name or run.absolute().name


def _gpus(without: int | None, *, _root_: DictConfig) -> int | None:
    """GPUs that a job needs, `without` for one that runs on the CPU."""
    return len(_root_.device.ids) if _root_.device.name == "gpu" else without


def register() -> None:
    """Makes the schema and the ssd.* resolvers known to Hydra; harmless when repeated."""
    ConfigStore.instance().store(name="schema", node=Config)
    resolvers: dict[str, Callable[..., Any]] = {
        "head": _head_field,
        "tier": _tier,
        "shape": _shape_name,
        "unless_compat": _unless_compat,
        "scales": anchor_scales,
        "sizes": anchor_sizes,
        "mxnet_ssd_rate": _mxnet_ssd_rate,
        "mxnet_ssd_decay": _mxnet_ssd_decay,
        "run_name": _run_name,
        "folder": lambda name: file_name(str(name)),
        "gpus": _gpus,
    }
    for name, function in resolvers.items():
        OmegaConf.register_new_resolver(f"ssd.{name}", function, replace=True)
    text.register()


register()


@contextmanager
def _no_other_hydra() -> Iterator[None]:
    """Puts aside the Hydra that runs this program, if one does: composing starts another, and there is room for one."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = outer


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """The validated configuration for these command-line words.

    Errors: UserError in one line for a misspelled key, an unknown choice, or a value of the wrong type.
    """
    from ssd.overrides import explain, normalise

    words = normalise(overrides)
    try:
        with _no_other_hydra(), initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = hydra_compose("config", overrides=words)
        validate(cfg)
    except UserError:
        raise
    except Exception as error:
        raise UserError(explain(error, words)) from error
    return cfg


def _check_text(cfg: DictConfig) -> None:
    """Errors: UserError for a key of text that is empty, or holds a list where a name belongs."""
    groups = OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name not in ("backbone", "head")])
    for key, value in leaves(OmegaConf.to_container(groups, resolve=False)).items():
        if value == "" and text.is_text(key):
            raise UserError(f"{key}=: is empty; give it a value, or null to leave it out")
        if "\0" in str(value):
            raise UserError(f"{key}: holds a NUL character, which no name has")
    if cfg.dataset.get("name") is None:
        raise UserError("dataset.name=null: needs a name, which the directories of runs and records have")
    own = str(cfg.dataset.get("_target_")).startswith("ssd.")
    for key in NAMES if own else ():
        if not isinstance(value := cfg.dataset.get(key), (str, NoneType)):
            raise UserError(f"dataset.{key}={value}: expected one name")


def leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists and empty dicts are leaves."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _check_data_shape(cfg: DictConfig) -> None:
    """Errors: UserError for sides that no network takes; what this one needs at least is told where it is built."""
    height, width = cfg.data_shape.height, cfg.data_shape.width
    if min(height, width) < 1:
        from ssd.symbol.features import feature_maps

        feature_maps(cfg)  # tells the smallest shape
    if max(height, width) > MAX_SIDE:
        raise UserError(f"data_shape {height}x{width}: expected at most {MAX_SIDE} pixels a side")


def validate(cfg: DictConfig) -> None:
    """What types cannot say. Errors: UserError naming the key."""
    if unknown := set(cfg) - {field.name for field in fields(Config)}:
        raise UserError(f"{min(unknown)}: no key of the configuration, nothing would read it")
    if missing := [field.name for field in fields(Config) if field.name != "logger" and field.name not in cfg]:
        raise UserError(f"{missing[0]}: has no value, every run needs one")
    _check_text(cfg)
    for key in ("compat", "metric.compat"):
        if (value := OmegaConf.select(cfg, key)) not in COMPAT:
            raise UserError(f"{key}={value}: choose null or mxnet_ssd")
    if not 0.1 < cfg.metric.iou < 1:
        raise UserError(f"metric.iou={cfg.metric.iou}: expected more than 0.1 and less than 1")
    if cfg.metric.gallery < 0:
        raise UserError(f"metric.gallery={cfg.metric.gallery}: expected a number of pictures, 0 for none")
    if not 0 <= cfg.threshold <= 1:
        raise UserError(f"threshold={cfg.threshold}: expected a score from 0 to 1")
    if cfg.resize_mode not in RESIZE_MODES:
        raise UserError(f"resize_mode={cfg.resize_mode}: choose {' or '.join(RESIZE_MODES)}")
    _check_data_shape(cfg)
    for key in ("batch_size", "epochs", "training.log_every", "training.validate_every", "sweep.parallel"):
        if (value := OmegaConf.select(cfg, key)) < 1:
            raise UserError(f"{key}={value}: must be at least 1")
    check_training(cfg)
    check_recipe(cfg)
    check_loader(cfg.loader)
    if not cfg.device.ids:
        raise UserError("device.ids=[]: name at least one device, e.g. device.ids=[0]")
    if len(set(cfg.device.ids)) < len(cfg.device.ids):
        raise UserError(f"device.ids={list(cfg.device.ids)}: a device is named twice")
    if cfg.batch_size < len(cfg.device.ids):
        raise UserError(f"batch_size={cfg.batch_size} is smaller than the number of devices ({len(cfg.device.ids)})")
    if any(value <= 0 for value in cfg.backbone.input.std):
        raise UserError(f"backbone.input.std={list(cfg.backbone.input.std)}: must be positive")
    layers = len(cfg.head.from_layers)
    for field in ("num_filters", "strides", "pads", "kernels", "sizes", "ratios", "normalization"):
        if len(cfg.head[field]) != layers:
            raise UserError(f"head.{field} has {len(cfg.head[field])} entries, head.from_layers {layers}")
