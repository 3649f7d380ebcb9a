"""Who makes the batches: worker processes that write into memory shared with this one, or a thread of this one.

Python's interpreter lock lets threads of one process wait for each other about a tenth of the time here; processes do
not. A worker is started anew, not forked: MXNet's threads and locks do not survive a fork. It ends with its parent.

    python -m ssd.data.crew CONNECTION MEMORY        # a worker, given two file descriptors
"""

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe
from typing import Protocol

import cv2
import numpy as np

from ssd.data.dataset import BOX_COLUMNS
from ssd.data.maker import BatchMaker, Portion, Recipe
from ssd.errors import UserError

PAGE = 4096
# What glibc's malloc does with a freed picture: keep it, and not have the system clear new pages for the next one.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
GRACE = 5  # seconds that a worker gets to end by itself


class Memory:
    """Room for some batches, in memory that worker processes can map: data and label of each by its slot."""

    def __init__(self, recipe: Recipe, slots: int, descriptor: int | None = None) -> None:
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


class Crew(Protocol):
    def submit(self, portion: Portion, slot: int) -> "Future[None]":
        """Has a portion of a batch made in a slot of the memory. The future's errors: UserError."""

    def close(self) -> None:
        """Ends all work, what was not begun included."""


class OneThread:
    """Makes batches in a thread of this process."""

    def __init__(self, maker: BatchMaker, memory: Memory) -> None:
        self._maker, self._memory = maker, memory
        self._pool = ThreadPoolExecutor(1, "loader")

    def submit(self, portion: Portion, slot: int) -> "Future[None]":
        data = self._memory.data(slot, portion.batch)
        return self._pool.submit(self._maker.make, portion, data, self._memory.label(slot))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class Processes:
    """Makes batches in `count` worker processes, each served by a thread of this one that only waits."""

    def __init__(self, recipe: Recipe, memory: Memory, slots: int, count: int) -> None:
        self._workers = [Worker(recipe, memory, slots) for _ in range(count)]
        self._idle = list(self._workers)
        self._mine = threading.local()
        self._pool = ThreadPoolExecutor(count, "loader", initializer=self._take)

    def submit(self, portion: Portion, slot: int) -> "Future[None]":
        return self._pool.submit(self._ask, portion, slot)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def _take(self) -> None:
        self._mine.worker = self._idle.pop()

    def _ask(self, portion: Portion, slot: int) -> None:
        self._mine.worker.make(portion, slot)


class Worker:
    """A process that makes portions of batches, one at a time."""

    def __init__(self, recipe: Recipe, memory: Memory, slots: int) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            descriptors = (theirs.fileno(), memory.descriptor)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ssd.data.crew", *map(str, descriptors)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                # Modules are found where this process found them.
                env=KEEP_MEMORY | os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        with contextlib.suppress(OSError):  # one that is gone already is found out by make()
            self._connection.send((recipe, slots))

    def make(self, portion: Portion, slot: int) -> None:
        """Errors: UserError for a damaged picture, and when the process is no more."""
        try:
            self._connection.send((portion, slot))
            problem = self._connection.recv()
        except (OSError, EOFError):
            code = self._process.wait()
            reason = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            raise UserError(
                f"a process that loads pictures ended ({reason}); where memory is short, try loader.workers=1"
            ) from None
        if problem is not None:
            raise UserError(problem)

    def close(self) -> None:
        self._connection.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def work(connection: Connection, descriptor: int) -> None:
    """What a worker does until its parent is gone or says so by closing the connection."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group, they are meant for the parent
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)
    with contextlib.suppress(EOFError, ConnectionError):
        recipe, slots = connection.recv()
        memory = Memory(recipe, slots, descriptor)
        maker = BatchMaker(recipe)
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
    work(Connection(int(sys.argv[1])), int(sys.argv[2]))
