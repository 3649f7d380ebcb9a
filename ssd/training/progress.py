"""How far a training is: everything that is no array and must survive an interruption."""

import json
import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ssd.mxnet_compat import mx
from ssd.training.losses import StepLosses
from ssd.utils.errors import UserError

ARRAY = "progress"  # its name in the states file
MAX_COUNT = 2**53  # of steps and images; far beyond any training


def count_of(value: Any, most: int = MAX_COUNT) -> int:
    """A whole number out of a checkpoint, which somebody else may have written. Errors: ValueError unless 0..most."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{str(value)[:40]!r} is not a number from 0 to {most}")
    return value


def real(value: Any) -> float:
    """A number out of a checkpoint. Errors: ValueError for what is none, or is not finite."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]!r} is not a finite number")
    return float(value)


@dataclass
class Meter:
    """Losses, images and times since its creation; `seconds` are those before an interruption."""

    losses: StepLosses = StepLosses()
    images: int = 0
    waited: float = 0.0
    seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, losses: StepLosses, images: int, waited: float) -> None:
        self.losses += losses
        self.images += images
        self.waited += waited

    @property
    def elapsed(self) -> float:
        return self.seconds + time.perf_counter() - self.started

    def values(self) -> dict[str, float]:
        elapsed = self.elapsed
        return {
            "train/loss": self.losses.loss,
            "train/cross_entropy": self.losses.cross_entropy,
            "train/smooth_l1": self.losses.smooth_l1,
            "train/images_per_second": self.images / elapsed,
            "train/data_wait": self.waited / elapsed,
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "losses": asdict(self.losses),
            "images": self.images,
            "waited": self.waited,
            "seconds": self.elapsed,
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Meter":
        """Errors: KeyError, TypeError, ValueError for what to_json() never gives."""
        losses = StepLosses(**saved["losses"])
        for value in vars(losses).values():
            if type(value) not in (int, float, bool):
                raise ValueError(f"{str(value)[:40]!r} is not a number")
        times = real(saved["waited"]), real(saved["seconds"])
        if min(times) < 0:
            raise ValueError("times are not negative")
        return cls(losses, count_of(saved["images"]), *times)


@dataclass
class Progress:
    """epochs: whole ones done, with their validation; step: of all epochs, done.

    whole, recent: of the epoch under way, and since the last row of the logs. run: the time of the whole run.
    """

    epochs: int = 0
    step: int = 0
    whole: Meter = field(default_factory=Meter)
    recent: Meter = field(default_factory=Meter)
    run: Meter = field(default_factory=Meter)

    def count(self, losses: StepLosses, images: int, waited: float) -> None:
        """A step that is done; one that is not finite is not in the means."""
        self.step += 1
        if losses.finite:
            for meter in (self.whole, self.recent):
                meter.add(losses, images, waited)

    def to_json(self) -> dict[str, Any]:
        meters = {name: getattr(self, name).to_json() for name in ("whole", "recent", "run")}
        return {"epochs": self.epochs, "step": self.step, **meters}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Progress":
        meters = {name: Meter.from_json(saved[name]) for name in ("whole", "recent", "run")}
        return cls(count_of(saved["epochs"]), count_of(saved["step"]), **meters)


def pack(facts: dict[str, Any]) -> Any:
    """Facts as an array of bytes, JSON, to lie among the arrays of a checkpoint; floats come back to the last bit."""
    return mx.nd.array(np.frombuffer(json.dumps(facts).encode(), np.uint8), dtype=np.uint8)


def unpack(array: Any) -> dict[str, Any]:
    """Errors: UserError when it holds something else."""
    try:
        facts = json.loads(array.asnumpy().astype(np.uint8).tobytes())
        if not isinstance(facts, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise UserError(f"the checkpoint's progress cannot be read ({error})") from error
    return facts
