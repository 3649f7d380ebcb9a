"""What a run tells, and who writes it down: one event stream, any number of writers.

    from ssd.runs.results import Results
    from ssd.tracking import Events, RunInfo, make_writers
    from ssd.tracking.files import RunFiles

    with Events({"files": RunFiles(), **make_writers(cfg.logger)}) as events:
        events.start(RunInfo(...))
        events.step(epoch, step, {"train/loss": 3.2})
        events.epoch(epoch, step, {"train/loss": 3.1, "val/map_11pt": 0.7})
        events.results(Results(epoch=epoch, step=step, checkpoint="best", values={"val/map_11pt": 0.7}))

Jobs know this stream only; they never ask whether TensorBoard or MLflow is listening.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssd.tracking.events import Events, RunInfo, Sweep, Writer, make_writers

__all__ = ["Events", "RunInfo", "Sweep", "Writer", "make_writers"]


def __getattr__(name: str) -> Any:
    """Imports the stream when it is used: the command line imports this package for less."""
    if name in __all__:
        return getattr(importlib.import_module("ssd.tracking.events"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
