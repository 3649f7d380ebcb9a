"""Training batches made in the background, while the network trains on the ones before.

Batches are the same at any number of workers, and any epoch can be made without the ones before it. They are bytes;
the trainer's graph normalizes them on the device.
"""

import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from ssd.config.parts import LoaderConfig
from ssd.config.validate import REPLACE
from ssd.data.base import BOX_COLUMNS
from ssd.data.loaders.base import Shard, TrainLoader, describe, label_rows
from ssd.data.loaders.batch_builder import BatchBuilder, BatchConfig
from ssd.data.loaders.workers import POLL_SECONDS, Patience, ProcessPool, SharedBatchBuffer, ThreadWorker, WorkerPool
from ssd.data.recordio.cache import Records
from ssd.mxnet_compat import mx
from ssd.utils.process import usable_cores

MOSAIC_ROWS = 64  # boxes a label has room for with mosaic or mixup on, unless one image alone has more
IN_USE_BATCHES = (
    2  # batches that training holds on to: the one it trains on, and the one before, which may still be read
)


@dataclass(frozen=True)
class Pending:
    """A batch being made: its number over all epochs, where it is made, and the work on it."""

    number: int
    slot: int
    work: list["Future[None]"]


class FastLoader(TrainLoader):
    def __init__(self, records: Records, loader: LoaderConfig, label_width: int, share: Shard) -> None:
        super().__init__(loader.batch_size)
        self.steps = records.count // loader.batch_size
        recipe = _recipe(records, loader, label_rows(label_width, records), share)
        self._maker = BatchBuilder(recipe)
        workers = usable_cores() if loader.workers is None else loader.workers
        # Ahead at least by so much that nobody is without work.
        self._ahead = max(loader.prefetch, -(-workers // len(self._maker.portions(0))))
        slots = self._ahead + 1 + IN_USE_BATCHES
        self._free = deque(range(slots))
        self._memory = SharedBatchBuffer(recipe, slots)
        patience = Patience(loader.patience_s, loader.on_hung == REPLACE)
        self._pool: WorkerPool = (
            ProcessPool(recipe, self._memory, slots, workers, patience, self._maker.names)
            if workers
            else ThreadWorker(self._maker, self._memory)
        )
        self._batches = loader.epochs * self.steps
        self._next = 0  # number of the batch that next() gives
        self._end = self.steps  # of the epoch
        shape = (len(self._maker.part), 3, recipe.spec.height, recipe.spec.width)
        self.provide_data, self.provide_label = describe(shape, (recipe.rows, BOX_COLUMNS), "uint8")
        self._pending: deque[Pending] = deque()
        self._closed = False

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
            self._wait(batch.work)
            for work in batch.work:
                work.result()
        except BaseException:
            self.close()
            raise
        self._pending.popleft()
        self._next += 1
        data = self._memory.data(batch.slot, batch.number)
        if self._free:
            weakref.finalize(data, self._free.append, batch.slot).atexit = False
        else:  # somebody collects batches: theirs must not be made use of again
            data = data.copy()
            self._free.append(batch.slot)
        file, part = self._maker.file, self._maker.part
        numbers = self._maker.images(batch.number, part.start, part.stop)
        provide_data, provide_label = describe(data.shape, self.provide_label[0].shape[1:], "uint8")
        return mx.io.DataBatch(
            data=[mx.nd.from_numpy(data)],
            label=[mx.nd.array(self._memory.label(batch.slot))],
            pad=0,
            index=[file.indices[number] for number in numbers],
            provide_data=provide_data,
            provide_label=provide_label,
        )

    def names(self, batch: Any) -> list[str]:
        return [self._maker.file.names[index] for index in batch.index]

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._pool.close()
        self._pending.clear()
        self._maker.close()
        self._memory.close()

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()

    def _drop(self) -> None:
        """Forgets the batches being made; returns when nothing writes to them any more."""
        for batch in self._pending:
            for work in batch.work:
                work.cancel()
        self._wait([work for batch in self._pending for work in batch.work])
        self._free.extend(batch.slot for batch in self._pending)
        self._pending.clear()

    def _wait(self, work: "Sequence[Future[None]]") -> None:
        while not all(part.done() for part in work):
            wait(work, POLL_SECONDS)
            self.heed()

    def _begin(self) -> None:
        """Has the next batch and some after it under way, across the end of an epoch but not of the run."""
        last = max(self._next, min(self._next + self._ahead, self._batches - 1))
        begun = self._pending[-1].number + 1 if self._pending else self._next
        for number in range(begun, last + 1):
            slot = self._free.popleft()
            work = [self._pool.submit(portion, slot) for portion in self._maker.portions(number)]
            self._pending.append(Pending(number, slot, work))


def _recipe(records: Records, loader: LoaderConfig, rows: int, share: Shard) -> BatchConfig:
    augment = loader.augment
    if augment.mosaic.probability or augment.mixup.probability:
        rows = max(rows, MOSAIC_ROWS)
    mixed = round(augment.mix_until * loader.epochs) * (records.count // loader.batch_size)
    return BatchConfig(records, augment, loader.input, loader.seed, loader.batch_size, rows, mixed, share)
