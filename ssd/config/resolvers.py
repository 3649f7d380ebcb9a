"""The ssd.* resolvers: what conf/ computes from other keys."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from ssd.config import text, weights
from ssd.config.schema import Config
from ssd.utils.errors import UserError
from ssd.utils.names import file_name

LARGE_TIER_PIXELS = 448
TIME = re.compile(r"\d{4}-\d\d-\d\d_")  # of a run, whose directory is named by it
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


def _of_weights(key: str, default: Any, *, _root_: DictConfig) -> Any:
    """mean, std or an option of backbone.network as the published weights of init.weights need it, else the default."""
    return weights.expected(_root_.init.weights, list(_root_.backbone.weights), key, default)


def _start_mode(given: str | None) -> str:
    """init.mode where nothing is said. given: init.weights."""
    return "scratch" if given is None else "pretrained"


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
    if cfg.job.name == "models":
        return "registry"
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
        "weights": _of_weights,
        "start_mode": _start_mode,
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
