"""Tells the runner which sweep it has run: Hydra alone knows when the command line is read."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Sweep(Callback):
    folder: Path | None = None  # of the sweep that this process runs, once it has begun

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.folder = Path(config.hydra.sweep.dir)
