"""What types cannot say of a configuration: ranges, lengths, keys that belong together."""

import math
import re
from collections.abc import Sequence
from dataclasses import fields
from types import NoneType
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ssd.config import text, weights
from ssd.config.schema import Config
from ssd.utils.errors import UserError
from ssd.utils.flatten import leaves

NON_FINITE = ("stop", "skip")
ON_HUNG = ("save", "wait")
ANYWHERE = ("0.0.0.0", "::", "")  # every address of a machine
REPLACE, WAIT = "replace", "wait"  # of loader.on_hung
CHOICES = {
    "init.mode": ("scratch", "pretrained", "finetune"),
    "init.network": ("config", "weights"),
    "loss.classification": ("softmax", "focal"),
    "matching.mining": ("image", "batch"),
    "training.precision": ("float32", "bfloat16", "float16"),
    "training.weight_decay": ("weights", "all"),
}
SCHEDULES = {"constant": (), "step": ("milestones", "factor"), "cosine": ("final",)}  # keys of each policy
DECAYS = ("momentum", "beta1", "beta2", "rho", "gamma1", "gamma2")  # of averages
BUT_HEADS = "but_heads"
STAGE = re.compile(r"stage:(\d+)")
NUMPY = ".npz"

PER_LAYER = ("num_filters", "strides", "pads", "kernels", "sizes", "ratios", "normalization")  # of the head
COMPAT = (None, "mxnet_ssd")
RESIZE_MODES = ("force", "fit")
MAX_THREADS = 1024
MAX_WORKERS = 256
MAX_AHEAD = 64  # batches
MAX_SIDE = 4096  # pixels; beyond it one image of a VGG fills a hundred gigabytes
NAMES = ("name", "root", "folder", "labels", "mirror", "out_of_range", "units", "delimiter")  # of a dataset, one each


def _check_text(cfg: DictConfig) -> None:
    """Errors: UserError for a key of text that is empty, or holds a list where a name belongs."""
    groups = OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name not in ("backbone", "head")])
    for key, value in leaves(OmegaConf.to_container(groups, resolve=False)).items():
        if value == "" and text.is_text(key):
            raise UserError(f"{key}=: is empty; give it a value, or null to leave it out")
        if "\0" in str(value):
            raise UserError(f"{key}: holds a NUL character, which no name has")
    if cfg.dataset.get("name") is None:
        raise UserError("dataset.name=null: expected a name, which the directories of runs and records have")
    own = str(cfg.dataset.get("_target_")).startswith("ssd.")
    for key in NAMES if own else ():
        if not isinstance(value := cfg.dataset.get(key), (str, NoneType)):
            raise UserError(f"dataset.{key}={value}: expected one name")


def _check_data_shape(cfg: DictConfig) -> None:
    """Errors: UserError for sides that no network takes; the least that a network needs depends on its layers."""
    height, width = cfg.data_shape.height, cfg.data_shape.width
    if min(height, width) < 1:
        raise UserError(f"data_shape {height}x{width}: expected at least 1 pixel a side")
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
            raise UserError(f"{key}={value}: expected null or mxnet_ssd")
    if not 0.1 < cfg.metric.iou < 1:
        raise UserError(f"metric.iou={cfg.metric.iou}: expected more than 0.1 and less than 1")
    if cfg.metric.worst_images < 0:
        raise UserError(f"metric.worst_images={cfg.metric.worst_images}: expected a number of images, 0 for none")
    if not 0 <= cfg.threshold <= 1:
        raise UserError(f"threshold={cfg.threshold}: expected a score from 0 to 1")
    if cfg.resize_mode not in RESIZE_MODES:
        raise UserError(f"resize_mode={cfg.resize_mode}: expected {' or '.join(RESIZE_MODES)}")
    _check_data_shape(cfg)
    for key in ("batch_size", "epochs", "training.log_every", "training.validate_every", "sweep.parallel"):
        if (value := OmegaConf.select(cfg, key)) < 1:
            raise UserError(f"{key}={value}: expected at least 1")
    check_training(cfg)
    check_recipe(cfg)
    check_loader(cfg.loader)
    if not cfg.device.ids:
        raise UserError("device.ids=[]: expected at least one device, e.g. device.ids=[0]")
    if len(set(cfg.device.ids)) < len(cfg.device.ids):
        raise UserError(f"device.ids={list(cfg.device.ids)}: expected each device once")
    if cfg.batch_size < len(cfg.device.ids):
        raise UserError(f"batch_size={cfg.batch_size}: expected at least the number of devices ({len(cfg.device.ids)})")
    if any(value <= 0 for value in cfg.backbone.input.std):
        raise UserError(f"backbone.input.std={list(cfg.backbone.input.std)}: expected positive numbers")
    check_head(cfg)


def check_head(cfg: DictConfig) -> None:
    """Errors: UserError when the lists of the head do not fit together."""
    head = cfg.head
    layers = head.from_layers
    for field in PER_LAYER:
        if len(head[field]) != len(layers):
            raise UserError(f"head.{field} has {len(head[field])} entries, head.from_layers {len(layers)}")
    if not layers or not layers[0].strip():
        raise UserError("head.from_layers: the first one must be a layer of the backbone, not ''")
    if not head.norm_epsilon >= 0:
        raise UserError(f"head.norm_epsilon={head.norm_epsilon}: expected a number of at least 0")
    check_steps(head.steps, len(layers), (cfg.data_shape.height, cfg.data_shape.width))


def check_steps(steps: Any, layers: int, shape: tuple[int, int]) -> None:
    """steps: of the head, which hold for one shape (height, width). Errors: UserError when they are too few or many."""
    if steps is not None and shape[0] == shape[1] == steps["at"] and len(steps["pixels"]) != layers:
        raise UserError(f"head.steps.pixels has {len(steps['pixels'])} entries, head.from_layers {layers}")


def check_recipe(cfg: DictConfig) -> None:
    """Errors: UserError naming the key."""
    for key, choices in CHOICES.items():
        if (value := OmegaConf.select(cfg, key)) not in choices:
            raise UserError(f"{key}={value}: expected {' or '.join(choices)}")
    for key in ("training.ema", "loss.label_smoothing"):
        if not 0 <= (value := OmegaConf.select(cfg, key)) < 1:
            raise UserError(f"{key}={value}: expected 0 (off) or more, and less than 1")
    for key in ("loss.focal.alpha", "loss.focal.prior"):
        if not 0 < (value := OmegaConf.select(cfg, key)) < 1:
            raise UserError(f"{key}={value}: expected more than 0 and less than 1")
    if cfg.loss.focal.gamma < 0:
        raise UserError(f"loss.focal.gamma={cfg.loss.focal.gamma}: expected at least 0")
    if cfg.loss.label_smoothing and cfg.loss.classification != "softmax":
        raise UserError(f"loss.label_smoothing={cfg.loss.label_smoothing}: is of loss.classification=softmax")
    _check_optimizer(cfg.optimizer)
    _check_schedule(cfg.schedule)
    _check_matching(cfg.matching)
    _check_accumulate(cfg)
    _check_init(cfg.init)
    if cfg.init.weights is not None and cfg.init.mode == "finetune":
        weights.check_classes(cfg.init.weights, cfg.backbone.weights)
    if cfg.init.weights is not None and cfg.init.network == "config":
        weights.check_choice(cfg.init.weights, cfg.backbone.name, cfg.backbone.weights, cfg.backbone.network)


def _check_optimizer(optimizer: DictConfig) -> None:
    _check_keys("optimizer", optimizer, ("name", "learning_rate"))
    options: Any = optimizer.items()
    for key, value in options:
        if key == "name" or (value is None and key == "clip_gradient"):
            continue
        _check_number(f"optimizer.{key}", value)
        if key in DECAYS and not 0 <= value < 1:
            raise UserError(f"optimizer.{key}={value}: expected at least 0 and less than 1")
        if value < 0 or (key in ("clip_gradient", "epsilon") and value == 0):
            raise UserError(f"optimizer.{key}={value}: expected {'at least' if value < 0 else 'more than'} 0")


def _check_schedule(schedule: DictConfig) -> None:
    _check_keys("schedule", schedule, ("name", "warmup"))
    if schedule.name not in SCHEDULES:
        raise UserError(f"schedule.name={schedule.name}: expected {' or '.join(SCHEDULES)}")
    _check_keys(f"schedule.name={schedule.name}", schedule, SCHEDULES[schedule.name])
    for key in ("warmup", *SCHEDULES[schedule.name]):
        values = schedule[key]
        for value in values if isinstance(values, ListConfig) else [values]:
            _check_number(f"schedule.{key}", value)
            if key in ("milestones", "warmup") and not 0 <= value <= 1:
                raise UserError(
                    f"schedule.{key}={value}: expected a fraction of the run, 0 to 1; epoch 80 of 240 is 0.333"
                )


def _check_keys(group: str, node: DictConfig, keys: Sequence[str]) -> None:
    if missing := [key for key in keys if key not in node]:
        raise UserError(f"{group}: needs {missing[0]}, which has no value")


def _check_number(key: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{key}={'null' if value is None else value}: expected a number")


def _check_matching(matching: DictConfig) -> None:
    for key in ("overlap", "negative_overlap"):
        if not 0 < matching[key] <= 1:
            raise UserError(f"matching.{key}={matching[key]}: expected an IoU, more than 0 and at most 1")
    for key in ("negative_ratio", "min_negatives"):
        if matching[key] < 0:
            raise UserError(f"matching.{key}={matching[key]}: expected at least 0")


def _check_accumulate(cfg: DictConfig) -> None:
    passes, devices = cfg.training.accumulate, len(cfg.device.ids)
    if passes < 1:
        raise UserError(f"training.accumulate={passes}: expected at least 1")
    if devices and cfg.job.name == "train":
        check_passes(passes, cfg.batch_size, devices, f" on {devices} devices each" if devices > 1 else "")


def check_passes(passes: int, batch_size: int, devices: int, where: str) -> None:
    """Errors: UserError when the passes of a step on so many devices would leave images over. where: said of them."""
    if passes > 1 and batch_size % (passes * devices):
        raise UserError(
            f"training.accumulate={passes}: batch_size={batch_size} cannot be shared evenly by {passes} passes"
            f"{where}, take a multiple of {passes * devices}"
        )


def _check_init(init: DictConfig) -> None:
    if init.mode == "scratch" and init.weights is not None:
        raise UserError(f"init.weights={init.weights}: say what for, init.mode=pretrained or init.mode=finetune")
    foreign = init.weights is not None and init.weights.endswith(NUMPY) and not weights.is_registered(init.weights)
    if foreign and init.mode == "finetune":
        raise UserError(f"init.weights={init.weights}: says nothing of its classes; use init.mode=pretrained")
    if foreign and init.weight_map is None:
        raise UserError(f"init.weights={init.weights}: say what its parameters are called, with the group weight_map=")
    if init.weight_map is not None and init.weights is not None and not foreign:
        raise UserError(f"weight_map=: is of an .npz, not of init.weights={init.weights}")
    if init.freeze_bn and init.mode == "scratch":
        raise UserError("init.freeze_bn=true: a network from scratch has no BatchNorm statistics yet")
    for group, rate in init.lr_mult.items():
        if rate < 0:
            raise UserError(f"init.lr_mult.{group}={rate}: expected at least 0")


def check_training(cfg: DictConfig) -> None:
    """Errors: UserError naming the key."""
    for key in ("checkpoint.keep.last", "checkpoint.keep.every", "checkpoint.every_steps",
                "early_stopping.patience", "guard.loss_spike.steps", "deploy.request_pixels"):  # fmt: skip
        if (value := OmegaConf.select(cfg, key)) is not None and value < 1:
            raise UserError(f"{key}={value}: expected at least 1")
    if cfg.check is not None:
        for key in ("check.overfit", "check.steps", "check.measure_every"):
            if (value := OmegaConf.select(cfg, key)) is not None and (type(value) is not int or value < 1):
                raise UserError(f"{key}={value}: expected a number of at least 1")
    for key in ("checkpoint.every_minutes", "max_hours"):
        if (value := OmegaConf.select(cfg, key)) is not None and value <= 0:
            raise UserError(f"{key}={value}: expected more than 0, or null")
    cluster = cfg.cluster
    if cluster.name != "none" and cfg.job.name != "train":
        raise UserError(f"cluster={cluster.name}: only job=train has several workers, job={cfg.job.name} has not")
    for key, least in (("cluster.workers", 1), ("cluster.servers", 0 if cluster.name == "none" else 1)):
        if (value := OmegaConf.select(cfg, key)) is not None and value < least:
            raise UserError(f"{key}={value}: expected at least {least}")
    _check_cluster(cluster)
    _check_how_many(cfg)
    if cfg.guard.non_finite not in NON_FINITE:
        raise UserError(f"guard.non_finite={cfg.guard.non_finite}: expected {' or '.join(NON_FINITE)}")
    spike = cfg.guard.loss_spike
    if spike.factor is not None and spike.factor <= 1:
        raise UserError(f"guard.loss_spike.factor={spike.factor}: expected more than 1, or null")
    if spike.steps > spike.window:
        raise UserError(f"guard.loss_spike.steps={spike.steps}: expected at most its window of {spike.window}")


def _check_how_many(cfg: DictConfig) -> None:
    """Errors: UserError for more threads or processes than any machine has use for: a mistyped number, or one out of
    somebody else's file, else fills it. OpenMP ends the process when it is given too many threads."""
    for key, most in (("device.threads", MAX_THREADS), ("loader.workers", MAX_WORKERS), ("loader.prefetch", MAX_AHEAD),
                      ("cluster.workers", MAX_WORKERS), ("cluster.servers", MAX_WORKERS),
                      ("sweep.parallel", MAX_WORKERS)):  # fmt: skip
        if (value := OmegaConf.select(cfg, key)) is not None and value > most:
            raise UserError(f"{key}={value}: must be at most {most}")
    if cfg.device.threads is not None and cfg.device.threads < 1:
        raise UserError(f"device.threads={cfg.device.threads}: must be at least 1, or null for the physical cores")


def _check_cluster(cluster: DictConfig) -> None:
    """Errors: UserError naming the key."""
    if cluster.name != "none" and not (cluster.patience_s or 0) > 0:
        raise UserError(f"cluster.patience_s={cluster.patience_s}: expected more than 0")
    if cluster.name != "none" and cluster.on_hung not in ON_HUNG:
        raise UserError(f"cluster.on_hung={cluster.on_hung}: expected {' or '.join(ON_HUNG)}")
    if cluster.address is not None and cluster.name in ("none", "local"):
        raise UserError(f"cluster.address={cluster.address}: cluster={cluster.name} needs none, nobody reaches it from "
                        "elsewhere; cluster=ssh and cluster=slurm listen on it")  # fmt: skip
    if cluster.address in ANYWHERE:
        raise UserError(f"cluster.address={cluster.address}: is no address that others can reach; name one of this "
                        "machine's")  # fmt: skip
    if cluster.name == "slurm" and cluster.folder is None:
        raise UserError("cluster.folder=null: expected a folder that all tasks share, for the key of the run")


def check_loader(loader: DictConfig) -> None:
    """Errors: UserError naming the key."""
    own = loader.name == "fast"
    if loader.prefetch < 1:
        raise UserError(f"loader.prefetch={loader.prefetch}: expected at least 1")
    least = 0 if own else 1
    if loader.workers is not None and loader.workers < least:
        raise UserError(f"loader.workers={loader.workers}: expected at least {least}, or null for the cores")
    for key in ("patience_s", "on_hung"):
        if not own and loader[key] is not None:
            raise UserError(f"loader.{key}={loader[key]}: MXNet's iterator cannot be replaced; use loader=fast")
    if loader.patience_s is not None and not 0 < loader.patience_s < float("inf"):
        raise UserError(f"loader.patience_s={loader.patience_s}: expected more than 0, or null")
    if own and loader.on_hung not in (REPLACE, WAIT):
        raise UserError(f"loader.on_hung={loader.on_hung}: expected {REPLACE} or {WAIT}")
