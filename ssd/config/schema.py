"""Names and types of the configuration's keys; their values and comments live in conf/.

With them a misspelled key, or a text where a number belongs, is an error when the configuration is composed, not an
hour later.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class Input:
    mean: list[float] = MISSING  # per channel, RGB, of 0..255
    std: list[float] = MISSING


@dataclass
class Backbone:
    name: str = MISSING
    network: Any = MISSING  # _target_ and options of a function in ssd/symbol/backbones
    input: Input = MISSING
    weights: list[str] = field(default_factory=list)  # published ones, by name; a backbone of one's own may have none
    freeze: str | None = MISSING
    heads: Any = MISSING  # per tier the fields of Head that depend on the backbone


@dataclass
class Head:
    from_layers: list[str] = MISSING  # outputs of the backbone, '' for an extra layer on top of the one before
    num_filters: list[int] = MISSING  # of extra layers; -1 elsewhere
    strides: list[int] = MISSING
    pads: list[int] = MISSING
    kernels: list[int] = MISSING
    sizes: Any = MISSING  # per layer [s, s'] as shares of the image side
    ratios: Any = MISSING  # per layer width / height
    normalization: list[float] = MISSING  # initial scale of an L2 normalization, -1 for none
    steps: Any = MISSING  # null or {at, pixels}
    batch_norm: bool = MISSING
    min_filter: int = MISSING
    norm_epsilon: float = MISSING
    clip: bool = MISSING
    variances: list[float] = MISSING


@dataclass
class DataShape:
    name: str = MISSING
    height: int = MISSING
    width: int = MISSING
    tier: str = MISSING


@dataclass
class Loader:
    name: str = MISSING
    workers: int | None = MISSING
    prefetch: int = MISSING  # batches
    patience_s: float | None = MISSING
    on_hung: str | None = MISSING


@dataclass
class Device:
    name: str = MISSING
    ids: list[int] = MISSING
    threads: int | None = MISSING


@dataclass
class Cluster:
    name: str = MISSING
    workers: int | None = MISSING
    servers: int | None = MISSING
    hosts: Any = MISSING  # null, a list of names, or a file of them
    ssh: str | None = MISSING
    address: str | None = MISSING
    port: int | None = MISSING
    folder: str | None = MISSING
    timeout: float | None = MISSING  # seconds
    patience_s: float | None = MISSING
    on_hung: str | None = MISSING  # save | wait


@dataclass
class Matching:
    overlap: float = MISSING
    negative_ratio: float = MISSING
    negative_overlap: float = MISSING
    mining: str = MISSING
    min_negatives: int = MISSING


@dataclass
class Focal:
    alpha: float = MISSING
    gamma: float = MISSING
    prior: float = MISSING


@dataclass
class Loss:
    classification: str = MISSING
    label_smoothing: float = MISSING
    focal: Focal = MISSING


@dataclass
class LearningRates:
    backbone: float = MISSING
    extras: float = MISSING
    heads: float = MISSING


@dataclass
class Init:
    mode: str = MISSING
    weights: str | None = MISSING
    mirror: str | None = MISSING
    offline: bool = MISSING
    network: str = MISSING
    weight_map: Any = MISSING  # null, or what conf/weight_map/ contains
    freeze: str | None = MISSING
    freeze_bn: bool = MISSING
    lr_mult: LearningRates = MISSING


@dataclass
class Detection:
    score_threshold: float = MISSING
    nms_threshold: float = MISSING
    pre_nms_topk: int = MISSING
    max_detections: int = MISSING
    soft_nms: str | None = MISSING
    sigma: float = MISSING
    flip: bool = MISSING


@dataclass
class Metric:
    iou: float = MISSING
    threshold: float | None = MISSING
    coco: bool = MISSING
    worst_images: int = MISSING
    compat: str | None = MISSING


@dataclass
class Training:
    log_every: int = MISSING
    validate_every: int = MISSING
    test: bool = MISSING
    accumulate: int = MISSING
    precision: str = MISSING
    weight_decay: str = MISSING
    ema: float = MISSING
    samples: int = MISSING
    records: str = MISSING
    max_side: int | None = MISSING


@dataclass
class Sweep:
    parallel: int = MISSING


@dataclass
class Calibration:
    split: str = MISSING
    images: int = MISSING
    method: str = MISSING


@dataclass
class Deploy:
    format: Any = MISSING  # a name or a list of names
    split: str = MISSING
    input: str = MISSING
    images: int = MISSING
    measure: bool = MISSING
    max_map_loss: float = MISSING
    calibration: Calibration = MISSING
    request_pixels: int = MISSING


@dataclass
class LossSpike:
    factor: float | None = MISSING
    steps: int = MISSING
    window: int = MISSING


@dataclass
class Guard:
    non_finite: str = MISSING
    max_skipped: int = MISSING
    loss_spike: LossSpike = MISSING


@dataclass
class EarlyStopping:
    patience: int | None = MISSING  # validations
    min_delta: float = MISSING


@dataclass
class Keep:
    last: int = MISSING
    every: int | None = MISSING  # epochs


@dataclass
class Checkpoint:
    keep: Keep = MISSING
    every_steps: int | None = MISSING
    every_minutes: float | None = MISSING


@dataclass
class Config:
    job: Any = MISSING
    backbone: Backbone = MISSING
    data_shape: DataShape = MISSING
    head: Head = MISSING
    dataset: Any = MISSING
    augment: Any = MISSING
    loader: Loader = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    device: Device = MISSING
    cluster: Cluster = MISSING
    logger: Any = None  # absent when no logger is chosen
    hooks: dict[str, Any] = MISSING
    check: Any = None  # of job=check
    init: Init = MISSING
    loss: Loss = MISSING
    matching: Matching = MISSING
    detection: Detection = MISSING
    metric: Metric = MISSING
    training: Training = MISSING
    sweep: Sweep = MISSING
    deploy: Deploy = MISSING
    checkpoint: Checkpoint = MISSING
    guard: Guard = MISSING
    early_stopping: EarlyStopping = MISSING
    max_hours: float | None = MISSING
    resume: str | None = MISSING
    seed: int = MISSING
    batch_size: int = MISSING
    epochs: int = MISSING
    resize_mode: str = MISSING
    model: str | None = MISSING
    source: str | None = MISSING
    threshold: float = MISSING
    rerun: str | None = MISSING
    compat: str | None = MISSING
