"""Tells the runner which sweep it has run: Hydra alone knows when the command line is read."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Sweep(Callback):
    folder: Path | None = None  # of the sweep that this process runs, once it has begun
    terminated = False  # by SIGTERM, of which its jobs know nothing, unlike of Ctrl-C

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.folder = Path(config.hydra.sweep.dir)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _end_as_by_ctrl_c)


def _end_as_by_ctrl_c(number: int, frame: FrameType | None) -> None:
    Sweep.terminated = True
    raise KeyboardInterrupt
