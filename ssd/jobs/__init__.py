"""The jobs: one verb per file, each with run(cfg, folder)."""

import importlib
import os
from pathlib import Path

from omegaconf import DictConfig


def run(cfg: DictConfig, folder: Path) -> float | None:
    """Does the configured job in this process, into `folder`; returns what a sweep optimises, where the job has it.

    Errors: UserError of the configuration or of the job.
    """
    from ssd.config import validate
    from ssd.rerun import as_saved

    cfg = as_saved(cfg)
    validate(cfg)
    if cfg.device.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(cfg.device.threads)
    value: float | None = importlib.import_module(f"ssd.jobs.{cfg.job.name}").run(cfg, folder)
    return value
