"""The jobs: one verb per file, each with run(cfg, folder)."""

import importlib
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ssd.config.credentials import take_config
from ssd.config.overrides import groups
from ssd.config.stores import check_named, check_places
from ssd.config.validate import validate
from ssd.utils.errors import UserError

WITHOUT_ENGINE = ("compare", "clean", "models")  # which need not wait for MXNet


def run(cfg: DictConfig, folder: Path) -> float | None:
    """Does the configured job in this process, into `folder`; returns what a sweep optimizes, where the job has it.

    Errors: UserError of the configuration or of the job.
    """
    from ssd.jobs.runtime import on_machine
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
    cfg = on_machine(cfg)
    if cfg.job.name not in (known := groups()["job"]):
        raise UserError(f"job.name={cfg.job.name}: no such job, choose from {', '.join(known)}")
    if cfg.job.name not in WITHOUT_ENGINE:
        from ssd.jobs.preflight import check_start

        check_start(cfg)
    value: float | None = importlib.import_module(f"ssd.jobs.{cfg.job.name}").run(cfg, folder)
    return value
