"""Who makes the batches: worker processes that write into memory shared with this one, or a thread of this one.

Python's interpreter lock lets threads of one process wait for each other about a tenth of the time here; processes do
not. A worker is started anew, not forked: MXNet's threads and locks do not survive a fork. It ends with its parent.

    python -m ssd.data.loaders.workers CONNECTION MEMORY        # a worker, given two file descriptors
"""

import contextlib
import logging
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Protocol

import cv2
import numpy as np

from ssd.config import credentials
from ssd.data.base import BOX_COLUMNS
from ssd.data.loaders.batch_builder import BatchBuilder, BatchConfig, Chunk
from ssd.utils.errors import UserError
from ssd.utils.process import Stopwatch, describe_exit, end_with_parent
from ssd.utils.signals import SIGNALS

PAGE = 4096
# What glibc's malloc does with a freed image: keep it, and not have the system clear new pages for the next one.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
EXIT_TIMEOUT = 1.0  # seconds that workers get to end by themselves
POLL_SECONDS = 0.2  # seconds between two looks at what else happens, while one is waited for

log = logging.getLogger(__name__)


@dataclass
class Patience:
    """timeout: seconds after which a worker that is at a portion of a batch is named; None = never. replace: whether it
    is then killed and replaced, or waited for."""

    timeout: float | None
    replace: bool


class _GoneError(Exception):
    """A worker process has ended, or was killed because it hung; the message says how."""


class SharedBatchBuffer:
    """Room for some batches, in memory that worker processes can map: data and label of each by its slot."""

    def __init__(self, recipe: BatchConfig, slots: int, descriptor: int | None = None) -> None:
        self._recipe = recipe
        self._size = len(recipe.share.of(recipe.batch_size))
        self._label_shape = (self._size, recipe.rows, BOX_COLUMNS)
        self._label_at = _pages(self._size * 3 * max(height * width for height, width in recipe.shapes()))
        self._slot_size = self._label_at + _pages(4 * int(np.prod(self._label_shape)))
        self.descriptor = _anonymous_file(self._slot_size * slots) if descriptor is None else descriptor
        self._map = mmap.mmap(self.descriptor, self._slot_size * slots)

    def data(self, slot: int, batch: int) -> np.ndarray:
        """uint8 [B, 3, H, W] of the batch's shape, a new view at every call."""
        shape = (self._size, 3, *self._recipe.shape(batch))
        return np.ndarray(shape, np.uint8, self._map, slot * self._slot_size)

    def label(self, slot: int) -> np.ndarray:
        """float32 [B, rows, 6], a new view at every call."""
        return np.ndarray(self._label_shape, np.float32, self._map, slot * self._slot_size + self._label_at)

    def close(self) -> None:
        """Gives the file back; the memory itself goes with the last array in it."""
        os.close(self.descriptor)


class WorkerPool(Protocol):
    def submit(self, portion: Chunk, slot: int) -> "Future[None]":
        """Has a portion of a batch made in a slot of the memory. The future's errors: UserError."""

    def close(self) -> None:
        """Ends all work, what was not begun included; nothing is written to the memory any more."""


class ThreadWorker:
    """Makes batches in a thread of this process."""

    def __init__(self, maker: BatchBuilder, memory: SharedBatchBuffer) -> None:
        self._maker, self._memory = maker, memory
        self._pool = ThreadPoolExecutor(1, "loader")

    def submit(self, portion: Chunk, slot: int) -> "Future[None]":
        data = self._memory.data(slot, portion.batch)
        return self._pool.submit(self._maker.make, portion, data, self._memory.label(slot))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class ProcessPool:
    """Makes batches in `count` worker processes, each served by a thread of this one that only waits.

    A worker that ends, or hangs for longer than `patience`, is replaced, and what it was at is made again: the same, as
    it depends on nothing but the recipe. What has ended two of them is given up.
    """

    def __init__(
        self,
        recipe: BatchConfig,
        memory: SharedBatchBuffer,
        slots: int,
        count: int,
        patience: Patience,
        names: Callable[[Chunk], list[str]],
    ) -> None:
        """names: the images of a portion, for messages. Errors: UserError when a process cannot be started."""
        self._patience, self._names = patience, names
        self._start = lambda: Worker(recipe, memory, slots)
        self._closing = threading.Event()
        self._workers: list[Worker] = []
        try:
            for _ in range(count):
                self._workers.append(self._started())
        except BaseException:
            _end(self._workers)
            raise
        self._places = list(range(count))
        self._mine = threading.local()
        self._pool = ThreadPoolExecutor(count, "loader", initializer=self._take)

    def submit(self, portion: Chunk, slot: int) -> "Future[None]":
        return self._pool.submit(self._ask, portion, slot)

    def close(self) -> None:
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)
        _end(self._workers)

    def _take(self) -> None:
        self._mine.place = self._places.pop()

    def _ask(self, portion: Chunk, slot: int) -> None:
        place = self._mine.place
        if (reason := self._workers[place].ended()) is not None:  # between two portions, which neither is to blame for
            self._replace(place, reason)
        try:
            self._workers[place].make(portion, slot, self._patience, self._closing)
        except _GoneError as error:
            self._replace(place, str(error))
        else:
            return
        try:
            self._workers[place].make(portion, slot, self._patience, self._closing)
        except _GoneError as error:
            raise UserError(
                f"two processes that load images ended over the same batch, the second {error}; its images: "
                f"{', '.join(self._names(portion))}; where memory is short, try loader.workers=1"
            ) from None

    def _replace(self, place: int, reason: str) -> None:
        worker = self._workers[place]
        log.warning("loader process %d is gone: %s; another makes its batch again", worker.number, reason)
        _end([worker])
        self._workers[place] = self._started()

    def _started(self) -> "Worker":
        try:
            return self._start()
        except OSError as error:
            raise UserError(
                f"a process that loads images cannot be started: {error.strerror}; try loader.workers=1"
            ) from error


class Worker:
    """A process that makes portions of batches, one at a time."""

    def __init__(self, recipe: BatchConfig, memory: SharedBatchBuffer, slots: int) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            descriptors = (theirs.fileno(), memory.descriptor)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ssd.data.loaders.workers", *map(str, descriptors)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                # Modules are found where this process found them.
                env=KEEP_MEMORY | credentials.environment() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self.number = self._process.pid
        with contextlib.suppress(OSError):  # one that is gone already is found out by make()
            self._connection.send((recipe, slots))

    def make(self, portion: Chunk, slot: int, patience: Patience, closing: threading.Event) -> None:
        """Errors: UserError for a damaged image, and when `closing` is set; _GoneError when the process is no more."""
        try:
            self._connection.send((portion, slot))
            self._wait(patience, closing)
            problem = self._connection.recv()
        except (OSError, EOFError):
            self._process.wait()
            raise _GoneError(self.ended()) from None
        if problem is not None:
            raise UserError(problem)

    def ended(self) -> str | None:
        """How the process ended, None when it is there."""
        code = self._process.poll()
        return None if code is None else describe_exit(code)

    def close(self) -> None:
        """Tells the process to end."""
        self._connection.close()

    def wait(self, seconds: float) -> None:
        """Until the process has ended, which it is made to after some seconds. Nothing that it does needs an end."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self, patience: Patience, closing: threading.Event) -> None:
        """Until the worker has something to say, or has ended. Errors: as make()."""
        named, watch = False, Stopwatch(2 * POLL_SECONDS)
        while not self._connection.poll(POLL_SECONDS):
            if closing.is_set():
                raise UserError("the loader is closed")
            waited = watch.look()
            if patience.timeout is None or waited < patience.timeout or named:
                continue
            if patience.replace:
                self._process.kill()
                raise _GoneError(f"hung for {patience.timeout:g} s, loader.patience_s, and was killed")
            log.warning(
                "loader process %d has been at a batch for %g s (loader.patience_s); waiting on (loader.on_hung=wait)",
                self.number, patience.timeout,
            )  # fmt: skip
            named = True


def _end(workers: list[Worker]) -> None:
    for worker in workers:
        worker.close()
    deadline = time.monotonic() + EXIT_TIMEOUT
    for worker in workers:
        worker.wait(max(0.0, deadline - time.monotonic()))


def worker_main(connection: Connection, descriptor: int) -> None:
    """What a worker does until its parent is gone or says so by closing the connection."""
    for number in SIGNALS:  # sent to the whole group, they are meant for the parent
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()  # a stopped worker would not notice that its parent is gone
    cv2.setNumThreads(1)
    with contextlib.suppress(EOFError, ConnectionError):
        recipe, slots = connection.recv()
        memory = SharedBatchBuffer(recipe, slots, descriptor)
        maker = BatchBuilder(recipe)
        while True:
            portion, slot = connection.recv()
            problem = None
            try:
                maker.make(portion, memory.data(slot, portion.batch), memory.label(slot))
            except UserError as error:
                problem = str(error)
            connection.send(problem)


def _pages(size: int) -> int:
    return (size + PAGE - 1) // PAGE * PAGE


def _anonymous_file(size: int) -> int:
    """Descriptor of a file without a name. Not in /dev/shm, which is only 64 MB in most containers."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("batches")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


if __name__ == "__main__":
    worker_main(Connection(int(sys.argv[1])), int(sys.argv[2]))
