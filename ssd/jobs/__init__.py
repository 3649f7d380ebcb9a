"""The jobs: one verb per file, each with run(cfg, folder)."""

import importlib
import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ssd.config.credentials import take_config
from ssd.config.overrides import groups
from ssd.config.stores import check_named, check_places
from ssd.config.validate import validate
from ssd.utils.cpu import physical_cores, usable_cores
from ssd.utils.errors import UserError

WITHOUT_ENGINE = ("compare", "clean")  # which need not wait for MXNet


def run(cfg: DictConfig, folder: Path) -> float | None:
    """Does the configured job in this process, into `folder`; returns what a sweep optimises, where the job has it.

    Errors: UserError of the configuration or of the job.
    """
    from ssd.runs.rerun import as_saved
    from ssd.runs.resume import AUTO

    cfg = as_saved(cfg)
    take_config(cfg)
    if source := cfg.rerun or (cfg.resume if cfg.resume != AUTO else None):
        check_named(OmegaConf.to_container(cfg.logger, resolve=True) if cfg.logger else {}, Path(source))
    if source or cfg.model:
        check_places({name: OmegaConf.to_container(cfg[name], resolve=True) for name in ("dataset", "training")},
                     Path(source or cfg.model))  # fmt: skip
    validate(cfg)
    settle(cfg)
    if cfg.job.name not in (known := groups()["job"]):
        raise UserError(f"job.name={cfg.job.name}: no such job, choose from {', '.join(known)}")
    if cfg.job.name not in WITHOUT_ENGINE:
        from ssd.jobs.preflight import check_start

        check_start(cfg)
    value: float | None = importlib.import_module(f"ssd.jobs.{cfg.job.name}").run(cfg, folder)
    return value


def settle(cfg: DictConfig) -> None:
    """Puts numbers on what follows from the machine and changes results, so that they are saved: sums depend on the
    number of OpenMP threads in the last digits, which training makes more of, and MXNet's iterator on its own."""
    here = cfg.cluster.workers if cfg.cluster.name == "local" else 1  # workers that share this machine
    if cfg.device.threads is None:
        said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
        cfg.device.threads = int(said or max(1, physical_cores() // here))
    os.environ["OMP_NUM_THREADS"] = str(cfg.device.threads)  # MXNet reads it when it is imported
    if cfg.loader.name == "record" and cfg.loader.workers is None:
        cfg.loader.workers = usable_cores()
    if here > 1 and cfg.loader.workers is None:
        cfg.loader.workers = max(1, usable_cores() // here)
