"""What a job settles before it starts: the machine's part, the classes of the dataset, how a model decodes.

Each is put into a copy of the configuration that nobody can change; a run saves that copy and works by it.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssd.config.parts import DETECTION_KEYS
from ssd.config.paths import CONF
from ssd.config.targets import literal
from ssd.runs.saved import literal_names
from ssd.utils.process import physical_cores, usable_cores


def resolved(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """A read-only copy of cfg with these values, by dotted key; cfg stays as it is."""
    copy = cfg.copy()
    OmegaConf.set_readonly(copy, False)
    for key, value in values.items():
        OmegaConf.update(copy, key, value, merge=False)
    OmegaConf.set_readonly(copy, True)
    return copy


def on_machine(cfg: DictConfig) -> DictConfig:
    """With numbers for what follows from the machine and changes results, so that they are saved: sums depend on the
    number of OpenMP threads in the last digits, which training makes more of, and MXNet's iterator on its own."""
    here = cfg.cluster.workers if cfg.cluster.name == "local" else 1  # workers that share this machine
    threads, workers = cfg.device.threads, cfg.loader.workers
    if threads is None:
        said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
        threads = int(said or max(1, physical_cores() // here))
    os.environ["OMP_NUM_THREADS"] = str(threads)  # MXNet reads it when it is imported
    if workers is None and cfg.loader.name == "record":
        workers = usable_cores()
    elif workers is None and here > 1:
        workers = max(1, usable_cores() // here)
    return resolved(cfg, {"device.threads": threads, "loader.workers": workers})


def with_classes(cfg: DictConfig, names: Sequence[str]) -> DictConfig:
    """With the classes that the dataset has."""
    return resolved(cfg, {"dataset.classes": literal_names(names)})


def with_decoding(cfg: DictConfig, detection: Mapping[str, Any]) -> DictConfig:
    """With the decoding of the model that is used, see ModelSpec.detection."""
    values = {f"detection.{DETECTION_KEYS[field]}": literal(value) for field, value in detection.items()}
    return resolved(cfg, values)


def overfitting(cfg: DictConfig, images: int) -> DictConfig:
    """For the self-test of job=check: one batch of so many images as they are, by Adam, all else as in training."""
    augment, optimizer, schedule = (
        OmegaConf.to_container(OmegaConf.load(CONF / file))
        for file in ("augment/none.yaml", "optimizer/adam.yaml", "schedule/constant.yaml")
    )
    assert isinstance(optimizer, dict)
    assert isinstance(schedule, dict)
    return resolved(
        cfg,
        {
            "augment": augment,
            "optimizer": {**optimizer, "learning_rate": cfg.check.learning_rate},
            "schedule": {**schedule, "warmup": min(1.0, cfg.check.warmup / cfg.check.steps)},
            "batch_size": images,
            "training.accumulate": 1,
            "epochs": cfg.check.steps,
        },
    )
