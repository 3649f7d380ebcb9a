"""What the rooms below the jobs get of the configuration: small frozen records, read from cfg here and nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from omegaconf import OmegaConf

from ssd.config.augment import Augment, input_shapes, read_augment
from ssd.config.validate import SCHEDULES, check_head, check_steps
from ssd.config.weights import Fetching, Weights, check_choice, chosen, read_entry

Part = TypeVar("Part")


@dataclass(frozen=True)
class InputSpec:
    """What a network eats: RGB of height x width, (x - mean) / std of 0..255.

    resize_mode: "force" stretches an image to the input; "fit" keeps its proportions: it lies in the upper left
    corner and the rest has the color `mean` (in whole levels), which the network sees as about zero.
    antialias: images at least twice as large as the input are averaged to a half, quarter or eighth first, in training
    as in inference. Otherwise resizing interpolates between four pixels and skips the others, as mxnet-ssd does.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_mode: str
    antialias: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def name(self) -> str:
        """As data_shape= says it."""
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"

    @property
    def border(self) -> tuple[int, ...]:
        """RGB of what no image covers."""
        return tuple(min(255, max(0, round(level))) for level in self.mean)


@dataclass(frozen=True)
class BackboneConfig:
    """network: `_target_` and options of what builds it."""

    name: str
    network: Mapping[str, Any]


@dataclass(frozen=True)
class HeadConfig:
    """The group `head`: lists with one entry per feature map, and what holds for all of them."""

    from_layers: tuple[str, ...]
    num_filters: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    kernels: tuple[int, ...]
    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[tuple[float, ...], ...]
    normalization: tuple[float, ...]
    steps: Mapping[str, Any] | None
    batch_norm: bool
    min_filter: int
    norm_epsilon: float
    clip: bool
    variances: tuple[float, ...]


@dataclass(frozen=True)
class FocalConfig:
    alpha: float
    gamma: float
    prior: float


@dataclass(frozen=True)
class LossConfig:
    classification: str
    label_smoothing: float
    focal: FocalConfig


@dataclass(frozen=True)
class MatchingConfig:
    overlap: float
    negative_ratio: float
    negative_overlap: float
    mining: str
    min_negatives: int


# Fields of DetectionConfig, which a checkpoint's spec names so, and the keys of cfg.detection.
DETECTION_KEYS = {
    "score": "score_threshold",
    "nms": "nms_threshold",
    "topk": "pre_nms_topk",
    "keep": "max_detections",
    "soft_nms": "soft_nms",
    "sigma": "sigma",
    "flip": "flip",
}


@dataclass(frozen=True)
class DetectionConfig:
    """The group `detection`; DETECTION_KEYS has its keys."""

    score: float
    nms: float
    topk: int
    keep: int
    soft_nms: str | None
    sigma: float
    flip: bool


@dataclass(frozen=True)
class NetworkConfig:
    """A network, its losses and its decoding. num_classes: of dataset.classes; None where it names none."""

    backbone: BackboneConfig
    input: InputSpec
    head: HeadConfig
    loss: LossConfig
    matching: MatchingConfig
    detection: DetectionConfig
    compat: str | None
    num_classes: int | None

    def at(self, shape: tuple[int, int]) -> "NetworkConfig":
        """With another input (height, width) and everything else, such as the layers of the head, as it is.

        Errors: UserError when the steps of the head do not fit."""
        check_steps(self.head.steps, len(self.head.from_layers), shape)
        return replace(self, input=replace(self.input, height=shape[0], width=shape[1]))


@dataclass(frozen=True)
class LoaderConfig:
    """Training batches and what makes them. batch_size: images of a batch, over all workers. workers: that make them;
    None = the cores. prefetch: batches. device: "cpu" or "gpu", of the network. patience_s, on_hung: see
    conf/loader/fast.yaml."""

    name: str
    workers: int | None
    prefetch: int
    patience_s: float | None
    on_hung: str | None
    batch_size: int
    epochs: int
    seed: int
    device: str
    augment: Augment
    input: InputSpec


@dataclass(frozen=True)
class DeviceConfig:
    """name: "cpu" or "gpu". threads: of OpenMP; None before the job has settled them."""

    name: str
    ids: tuple[int, ...]
    threads: int | None


@dataclass(frozen=True)
class ClusterConfig:
    """The group `cluster`, see conf/cluster, and what several workers share. batch_size: of all of them together.
    accumulate: passes of a step. devices: of each worker. config: of the run, as YAML, that the others get."""

    name: str
    workers: int | None
    servers: int | None
    hosts: str | tuple[str, ...] | None
    ssh: str | None
    address: str | None
    port: int | None
    folder: str | None
    timeout: float
    patience_s: float | None
    on_hung: str | None
    batch_size: int
    accumulate: int
    devices: int
    config: str


@dataclass(frozen=True)
class WeightsRequest:
    """Weights of the registry to start a network from. network: `_target_` and options of its backbone; mean, std: of
    its input, RGB of 0..255."""

    entry: Weights
    fetching: Fetching
    network: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class InitConfig:
    """What a network starts from, see conf/config.yaml. published: where weights is a name of the registry.
    weight_map: what an .npz calls its parameters. freeze: as configured, else that of the backbone, which a network
    from scratch does not have. freeze_bn: of the backbone. lr_mult: by group of parameters."""

    mode: str
    weights: str | None
    published: WeightsRequest | None
    weight_map: Mapping[str, Any] | None
    freeze: str | None
    freeze_bn: bool
    lr_mult: Mapping[str, float]


@dataclass(frozen=True)
class OptimizerConfig:
    """options: of the optimizer of that name, all but the learning rate."""

    name: str
    learning_rate: float
    options: Mapping[str, Any]


@dataclass(frozen=True)
class ScheduleConfig:
    """warmup: fraction of the run. options: of the policy of that name."""

    name: str
    warmup: float
    options: Mapping[str, Any]


@dataclass(frozen=True)
class TrainerConfig:
    """How a network is trained. shapes: (height, width) that batches may have, the configured one first. accumulate:
    passes of a step. weight_decay: "weights" or "all". ema: decay per step, 0 = none. distributed: by several workers.
    """

    network: NetworkConfig
    shapes: tuple[tuple[int, int], ...]
    init: InitConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    device: DeviceConfig
    precision: str
    accumulate: int
    weight_decay: str
    ema: float
    seed: int
    distributed: bool


@dataclass(frozen=True)
class GuardConfig:
    """What ends a training early. max_skipped, spike_steps (in a row), spike_window (the median is of): steps.
    spike_factor: of the median loss; None = never. patience: validations; None = never."""

    non_finite: str  # stop | skip
    max_skipped: int
    spike_factor: float | None
    spike_steps: int
    spike_window: int
    patience: int | None
    min_delta: float
    max_hours: float | None


def network_config(cfg: Any) -> NetworkConfig:
    """cfg: what ssd.config.compose() returns; a NetworkConfig is returned as it is.

    Errors: UserError when the lists of the head do not fit together.
    """
    if isinstance(cfg, NetworkConfig):
        return cfg
    check_head(cfg)
    loss, classes = plain(cfg.loss), cfg.dataset.get("classes")
    return NetworkConfig(
        backbone=BackboneConfig(cfg.backbone.name, plain(cfg.backbone.network)),
        input=input_spec(cfg),
        head=read(HeadConfig, cfg.head),
        loss=LossConfig(loss["classification"], loss["label_smoothing"], FocalConfig(**loss["focal"])),
        matching=read(MatchingConfig, cfg.matching),
        detection=detection_config(cfg),
        compat=cfg.compat,
        num_classes=len(classes) if classes else None,
    )


def detection_config(cfg: Any) -> DetectionConfig:
    return DetectionConfig(**{field: cfg.detection[key] for field, key in DETECTION_KEYS.items()})


def input_spec(cfg: Any) -> InputSpec:
    """Of what is trained by this configuration: MXNet's iterator cannot average, and with compat images are resized as
    mxnet-ssd resized them."""
    shape, normal = cfg.data_shape, cfg.backbone.input
    antialias = cfg.compat is None and cfg.loader.name == "fast"
    return InputSpec(shape.height, shape.width, tuple(normal.mean), tuple(normal.std), cfg.resize_mode, antialias)


def weights_request(cfg: Any) -> WeightsRequest | None:
    """What init.weights names in the registry; None where it is a path or null. Errors: UserError where it does not fit
    the backbone."""
    init, backbone = cfg.init, cfg.backbone
    name = chosen(init.weights, backbone.weights)
    if name is None:
        return None
    network, normal = plain(backbone.network), backbone.input
    check_choice(init.weights, backbone.name, backbone.weights, network)
    fetching = Fetching(init.mirror, init.offline)
    return WeightsRequest(read_entry(name), fetching, network, tuple(normal.mean), tuple(normal.std))


def loader_config(cfg: Any) -> LoaderConfig:
    """Errors: UserError naming a wrong, unknown or missing key of the augmentation."""
    return LoaderConfig(
        **plain(cfg.loader),
        batch_size=cfg.batch_size,
        epochs=cfg.epochs,
        seed=cfg.seed,
        device=cfg.device.name,
        augment=read_augment(cfg.augment),
        input=input_spec(cfg),
    )


def device_config(cfg: Any) -> DeviceConfig:
    return read(DeviceConfig, cfg.device)


def cluster_config(cfg: Any) -> ClusterConfig:
    return ClusterConfig(
        **{**plain(cfg.cluster), "hosts": _tuples(plain(cfg.cluster.hosts))},
        batch_size=cfg.batch_size,
        accumulate=cfg.training.accumulate,
        devices=len(cfg.device.ids),
        config="" if cfg.cluster.name == "none" else OmegaConf.to_yaml(cfg, resolve=True),
    )


def trainer_config(cfg: Any) -> TrainerConfig:
    """Errors: UserError when the lists of the head do not fit together, or of a key of the augmentation."""
    network, training = network_config(cfg), cfg.training
    return TrainerConfig(
        network=network,
        shapes=tuple(input_shapes(read_augment(cfg.augment), network.input.shape)),
        init=_init_config(cfg),
        optimizer=_optimizer_config(cfg.optimizer),
        schedule=_schedule_config(cfg.schedule),
        device=device_config(cfg),
        precision=training.precision,
        accumulate=training.accumulate,
        weight_decay=training.weight_decay,
        ema=training.ema,
        seed=cfg.seed,
        distributed=cfg.cluster.name != "none",
    )


def _init_config(cfg: Any) -> InitConfig:
    init = plain(cfg.init)
    return InitConfig(
        mode=init["mode"],
        weights=init["weights"],
        published=weights_request(cfg),
        weight_map=init["weight_map"],
        freeze=init["freeze"] or (cfg.backbone.freeze if init["mode"] != "scratch" else None),
        freeze_bn=init["freeze_bn"],
        lr_mult=init["lr_mult"],
    )


def _optimizer_config(optimizer: Any) -> OptimizerConfig:
    options = plain(optimizer)
    name, rate = options.pop("name"), options.pop("learning_rate")
    if options.get("clip_gradient") is None:  # which MXNet's optimizers are not given
        options.pop("clip_gradient", None)
    return OptimizerConfig(name, rate, options)


def _schedule_config(schedule: Any) -> ScheduleConfig:
    values = plain(schedule)
    name = values["name"]
    return ScheduleConfig(name, values["warmup"], {key: values[key] for key in SCHEDULES[name]})


def guard_config(cfg: Any) -> GuardConfig:
    guard = cfg.guard
    return GuardConfig(
        non_finite=guard.non_finite,
        max_skipped=guard.max_skipped,
        spike_factor=guard.loss_spike.factor,
        spike_steps=guard.loss_spike.steps,
        spike_window=guard.loss_spike.window,
        patience=cfg.early_stopping.patience,
        min_delta=cfg.early_stopping.min_delta,
        max_hours=cfg.max_hours,
    )


def read(kind: type[Part], node: Any) -> Part:
    """The record `kind` of a group whose keys are its fields, with tuples for lists."""
    values = plain(node)
    return kind(**{field.name: _tuples(values[field.name]) for field in fields(kind)})  # type: ignore[arg-type]


def plain(node: Any) -> Any:
    """A node of the configuration as dicts, lists and values; anything else as it is."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
