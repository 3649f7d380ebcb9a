"""Training batches made by threads in this process, while the network trains on the ones before.

OpenCV and the reads release the interpreter lock, so threads share the work without copies. What a picture becomes
depends on the seed and its place in the endless stream of passes, and on nothing else: batches are the same at any
number of threads, and any epoch can be made without the ones before it. Batches are bytes; the trainer's graph
normalises them on the device.
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.random.bit_generator import ISeedSequence
from omegaconf import DictConfig

from ssd.data.augment import read_augment
from ssd.data.batches import TrainLoader, describe, label_rows
from ssd.data.dataset import BOX_COLUMNS
from ssd.data.painting import Painted, Painter
from ssd.data.placement import InputSpec
from ssd.data.recordio import Picture, RecordFile
from ssd.data.records import Records
from ssd.engine import mx, usable_cores

ORDER_KEYS = 1 << 63  # keys of the passes' orders begin here, those of the pictures at 0
WORD = (1 << 64) - 1
GROUP = 8  # pictures that a thread makes at a time, from the same random numbers
MOSAIC_ROWS = 64  # boxes a label has room for with mosaic or mixup on, unless one picture alone has more


@dataclass(frozen=True)
class Pending:
    """A batch being made: its number over all epochs, its arrays and pictures, and the work on it."""

    number: int
    data: np.ndarray
    label: np.ndarray
    pictures: list[int]
    work: list["Future[None]"] = field(default_factory=list)


class FastLoader(TrainLoader):
    def __init__(self, records: Records, cfg: DictConfig, label_width: int) -> None:
        super().__init__(cfg.batch_size)
        self._spec = InputSpec.from_config(cfg)
        self._augment = read_augment(cfg.augment)
        self._painter = Painter(self._augment, self._spec)
        self._file = RecordFile(records)
        self._seed = cfg.seed
        self._prefetch = cfg.loader.prefetch
        self._rows = label_rows(label_width, records)
        if self._augment.mosaic.probability or self._augment.mixup.probability:
            self._rows = max(self._rows, MOSAIC_ROWS)
        self.steps = len(self._file) // cfg.batch_size
        self._batches = cfg.epochs * self.steps
        self._mixed = round(self._augment.mix_until * cfg.epochs) * self.steps  # batches before mosaic and mixup end
        self._next = 0  # number of the batch that next() gives
        self._end = self.steps  # of the epoch
        shape = (cfg.batch_size, 3, self._spec.height, self._spec.width)
        self.provide_data, self.provide_label = describe(shape, (self._rows, BOX_COLUMNS), "uint8")
        self._pool = ThreadPoolExecutor(cfg.loader.threads or usable_cores(), "loader")
        self._pending: deque[Pending] = deque()
        self._orders: dict[int, np.ndarray] = {}  # of the passes at work

    def reset(self) -> None:
        begun = self._next > self._end - self.steps
        self.start(self._end // self.steps - (0 if begun else 1), 0)

    def start(self, epoch: int, batch: int) -> None:
        self._next, self._end = epoch * self.steps + batch, (epoch + 1) * self.steps
        if self._pending and self._pending[0].number != self._next:
            self._drop()

    def next(self) -> Any:
        if self._next == self._end:
            raise StopIteration
        self._begin()
        batch = self._pending[0]
        try:
            for work in batch.work:
                work.result()
        except BaseException:
            self.close()
            raise
        self._pending.popleft()
        self._next += 1
        return mx.io.DataBatch(
            data=[mx.nd.from_numpy(batch.data)],
            label=[mx.nd.from_numpy(batch.label)],
            pad=0,
            index=[self._file.indices[number] for number in batch.pictures],
            provide_data=self.provide_data,
            provide_label=self.provide_label,
        )

    def names(self, batch: Any) -> list[str]:
        return [self._file.names[index] for index in batch.index]

    def close(self) -> None:
        self._drop()
        self._pool.shutdown()
        self._file.close()

    def _drop(self) -> None:
        """Forgets the batches being made; returns when nothing writes to them any more."""
        for batch in self._pending:
            for work in batch.work:
                work.cancel()
        wait([work for batch in self._pending for work in batch.work])
        self._pending.clear()

    def _begin(self) -> None:
        """Has the next batch and a few after it under way, across the end of an epoch but not of the run."""
        last = max(self._next, min(self._next + self._prefetch, self._batches - 1))
        begun = self._pending[-1].number + 1 if self._pending else self._next
        for number in range(begun, last + 1):
            self._pending.append(self._begun(number))

    def _begun(self, number: int) -> Pending:
        start = number * self.batch_size
        batch = Pending(
            number,
            data=np.empty(self.provide_data[0].shape, np.uint8),
            label=np.full(self.provide_label[0].shape, -1, np.float32),
            pictures=[self._picture_at(start + slot) for slot in range(self.batch_size)],
        )
        for first in range(0, self.batch_size, GROUP):
            slots = range(first, min(first + GROUP, self.batch_size))
            batch.work.append(self._pool.submit(self._fill, batch, slots))
        return batch

    def _fill(self, batch: Pending, slots: range) -> None:
        """Makes a group of a batch's pictures."""
        rng = generator(self._seed, batch.number * self.batch_size + slots.start)
        painted = self._painted([batch.pictures[slot] for slot in slots], rng, mixed=batch.number < self._mixed)
        for slot, (image, boxes) in zip(slots, painted, strict=True):
            red, green, blue = batch.data[slot]
            cv2.split(image, [blue, green, red])
            batch.label[slot, : len(boxes)] = boxes

    def _painted(self, numbers: list[int], rng: np.random.Generator, mixed: bool) -> list[Painted]:
        """Mosaic and mixup are done as far as the boxes fit the label: none may be left out that can be seen."""
        pictures = [self._file.read(number) for number in numbers]
        if not mixed:
            return self._painter.singles(pictures, rng)
        painted: dict[int, Painted] = {}
        for slot, draw in enumerate(rng.random(len(pictures))):
            if draw < self._augment.mosaic.probability:
                mosaic = self._painter.mosaic([pictures[slot], *self._others(3, rng)], rng)
                if len(mosaic[1]) <= self._rows:
                    painted[slot] = mosaic
        alone = [slot for slot in range(len(pictures)) if slot not in painted]
        painted |= zip(alone, self._painter.singles([pictures[slot] for slot in alone], rng), strict=True)
        mixups = np.flatnonzero(rng.random(len(pictures)) < self._augment.mixup.probability).tolist()
        for slot, other in zip(mixups, self._painter.singles(self._others(len(mixups), rng), rng), strict=True):
            if len(painted[slot][1]) + len(other[1]) <= self._rows:
                painted[slot] = self._painter.mixup(painted[slot], other, rng)
        return [painted[slot] for slot in range(len(pictures))]

    def _others(self, count: int, rng: np.random.Generator) -> list[Picture]:
        return [self._file.read(int(number)) for number in rng.integers(len(self._file), size=count)]

    def _picture_at(self, position: int) -> int:
        """Number of the picture at a place of the endless stream: every pass over the data has an order of its own."""
        turn, place = divmod(position, len(self._file))
        if turn not in self._orders:
            self._orders = {kept: order for kept, order in self._orders.items() if kept == turn - 1}
            self._orders[turn] = generator(self._seed, ORDER_KEYS + turn).permutation(len(self._file))
        return int(self._orders[turn][place])


class Key(ISeedSequence):
    """(seed, key) as they are: numpy's own would first ask the system for random numbers, which takes longer."""

    def __init__(self, seed: int, key: int) -> None:
        self._words = np.array([seed & WORD, key], np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return self._words


def generator(seed: int, key: int) -> np.random.Generator:
    """A stream of random numbers of its own for every (seed, key), ready in microseconds."""
    return np.random.Generator(np.random.Philox(Key(seed, key)))  # type: ignore[arg-type]
