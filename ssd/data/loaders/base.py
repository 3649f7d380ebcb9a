"""What every training loader is to the rest of the package, and who makes which part of every batch where several
workers share the work.
"""

from abc import abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ssd.data.base import BOX_COLUMNS
from ssd.data.recordio.cache import HEADER, Records
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError


@dataclass(frozen=True)
class Shard:
    """Worker `rank` of `workers`; all shares together are the batch that one worker alone would make."""

    rank: int = 0
    workers: int = 1

    def of(self, size: int) -> range:
        """The places of a batch of `size` images that are this worker's."""
        return range(self.rank * size // self.workers, (self.rank + 1) * size // self.workers)


class TrainLoader(mx.io.DataIter):
    """Iterates one epoch: `steps` full batches with data [B, 3, H, W] and label [B, M, 6] padded with -1.
    batch_size counts the images of all workers, B those of this one.

    data is float32, normalized, or uint8 RGB, not normalized: provide_data says which. label rows: (class, xmin, ymin,
    xmax, ymax, difficult), corners 0..1 of the network input, real ones first. steps = images // batch size: what an
    epoch leaves over comes first in the next one, so that over the epochs all images are seen equally often.
    A context manager: leaving it ends the background work.
    """

    provide_data: list[Any]
    provide_label: list[Any]
    steps: int

    def heed(self) -> None:
        """Called about five times a second while a batch is waited for; whoever replaces it may raise. MXNet's iterator
        waits where it cannot be called."""

    @abstractmethod
    def reset(self) -> None:
        """Starts the next epoch, also in the middle of one."""

    @abstractmethod
    def start(self, epoch: int, batch: int) -> None:
        """Makes `epoch`, counted from 0, the one that is iterated, from its batch of that number on."""

    @abstractmethod
    def next(self) -> Any:
        """The next mx.io.DataBatch; its `index` holds the numbers of the images in the .lst. StopIteration at the
        end of the epoch; UserError for an image that cannot be read."""

    @abstractmethod
    def names(self, batch: Any) -> list[str]:
        """Files of a batch's images, as the .lst names them."""

    def close(self) -> None:
        """Ends the background work; harmless when repeated."""

    def __enter__(self) -> "TrainLoader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def label_rows(label_width: int, records: Records) -> int:
    """M of a label_width = 2 + 6 * M that holds every image of the records. Errors: UserError when it does not."""
    rows, rest = divmod(label_width - len(HEADER), BOX_COLUMNS)
    needed = (records.label_width - len(HEADER)) // records.object_width
    if rows < needed or rest:
        raise UserError(f"label_width {label_width} must be 2 + 6 * rows with at least {needed} rows")
    return rows


def describe(shape: tuple[int, ...], boxes: tuple[int, int], dtype: str) -> tuple[list[Any], list[Any]]:
    """provide_data and provide_label for data of `shape` [B, 3, H, W] and `boxes` (M, numbers each) per image."""
    data = mx.io.DataDesc("data", shape, dtype=dtype)
    return [data], [mx.io.DataDesc("label", (shape[0], *boxes))]
