"""Where the time of detecting goes: seconds of each stage, per frame."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from ssd.detection.detector import Detector
from ssd.utils.text_table import text_table

T = TypeVar("T")

STAGES = ("decode", "preprocess", "forward", "nms", "draw", "save")


class StageTimer:
    """Adds up the seconds of each stage.

    A first batch of its size binds the network to it. Such batches count only if there are no others: they say how a
    program starts, not how fast it is.
    """

    def __init__(self) -> None:
        self._lap = dict.fromkeys(STAGES, 0.0)
        self._first, self._later = dict(self._lap), dict(self._lap)
        self._frames = {"first": 0, "later": 0}
        self._sizes: set[int] = set()
        self._used: set[str] = set()

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._lap[stage] += time.perf_counter() - start
            self._used.add(stage)

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time it takes to get them is the stage's."""
        iterator = iter(items)
        while True:
            with self.measure(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def batch_done(self, size: int) -> None:
        """What was measured since the last call belongs to `size` frames."""
        sums, kind = (self._later, "later") if size in self._sizes else (self._first, "first")
        self._sizes.add(size)
        self._frames[kind] += size
        for stage in STAGES:
            sums[stage] += self._lap[stage]
            self._lap[stage] = 0.0

    @property
    def frames(self) -> int:
        return sum(self._frames.values())

    def milliseconds(self) -> dict[str, float]:
        """Per frame, of every stage that there was; empty without frames."""
        kind, sums = ("later", self._later) if self._frames["later"] else ("first", self._first)
        count = self._frames[kind]
        return {stage: 1000 * sums[stage] / count for stage in STAGES if stage in self._used} if count else {}

    def table(self) -> list[str]:
        """Lines of text: milliseconds and frames per second of every stage, and of all together."""
        rows = self.milliseconds()
        rows["together"] = sum(rows.values())
        cells = [(name, f"{time_:.2f}", f"{1000 / max(time_, 1e-3):.1f}") for name, time_ in rows.items()]
        return text_table(["stage", "ms/frame", "frames/s"], cells)


def predict(detector: Detector, images: Sequence[np.ndarray], stages: StageTimer) -> list[np.ndarray]:
    """What Detector.predict gives for one batch, timed."""
    with stages.measure("preprocess"):
        data = detector.preprocess(images)
    with stages.measure("forward"):
        outputs = detector.forward_with_tta(data)
    with stages.measure("nms"):
        return detector.to_image_coords(detector.suppress(outputs), images)
