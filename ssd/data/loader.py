"""Training batches from records, by the C++ iterator of MXNet."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig

from ssd.data.augment import iterator_options
from ssd.data.dataset import BOX_COLUMNS
from ssd.data.records import HEADER, Records
from ssd.engine import mx
from ssd.errors import UserError

ROW_HEADER = 4  # MXNet puts [channels, rows, columns, label length] before each picture's label
READ_BYTES = 8 << 20  # MXNet reads, decodes and shuffles this much of the records at a time
DECODED_BYTES = 400_000_000  # of the pictures decoded at a time; MXNet keeps three to four such lots in memory


def make_train_loader(records: Records, cfg: DictConfig, label_width: int) -> "TrainLoader":
    """Endless shuffled batches of `records`, cut into epochs of whole batches.

    cfg: the whole configuration; read are batch_size, seed, data_shape, augment, backbone.input and device.
    label_width: label_pad_width of the training labels, records.label_width or more.
    UserError when the batch is larger than the data set.
    """
    rows, rest = divmod(label_width - len(HEADER), BOX_COLUMNS)
    needed = (records.label_width - len(HEADER)) // records.object_width
    if rows < needed or rest:
        raise UserError(f"label_width {label_width} must be 2 + 6 * rows with at least {needed} rows")
    if cfg.batch_size > records.count:
        raise UserError(
            f"batch_size is {cfg.batch_size} but there are only {records.count} pictures to train on: "
            f"batch_size={records.count} or less"
        )
    size = (cfg.data_shape.height, cfg.data_shape.width)
    options = dict(
        path_imgrec=str(records.rec),
        data_shape=(3, *size),
        batch_size=cfg.batch_size,
        label_width=-1,
        label_pad_width=len(HEADER) + records.object_width * rows,
        label_pad_value=-1.0,
        shuffle=True,
        seed=cfg.seed,
        shuffle_chunk_size=_shuffle_piece(records, size),
        shuffle_chunk_seed=cfg.seed,
        round_batch=True,
        preprocess_threads=usable_cores(),
        resize_mode="force",
        verbose=False,
        ctx=cfg.device.name,
        **_normalisation(cfg.backbone.input),
        **iterator_options(cfg.augment),
    )
    with _damage_named(records):  # MXNet decodes a first batch at once
        iterator = mx.io.ImageDetRecordIter(**options)
    return TrainLoader(iterator, records, (cfg.batch_size, rows, records.object_width))


def _shuffle_piece(records: Records, size: tuple[int, int]) -> int:
    """shuffle_chunk_size: MB of the pieces a file is cut into, 0 to leave it whole.

    A file that is read at once is shuffled freely. A larger one, or one that would fill the memory when decoded, is
    cut: the order of the pieces and of the pictures in each is new in every pass, and the packing has shuffled which
    pictures share one. (Below 4 MB MXNet warns that the pieces are small, which they are meant to be.)
    """
    file_bytes = records.rec.stat().st_size
    decoded_bytes = records.count * 3 * size[0] * size[1] * 4
    if file_bytes <= READ_BYTES and decoded_bytes <= DECODED_BYTES:
        return 0
    return max(1, min(4, int(file_bytes / 1e6 * DECODED_BYTES / decoded_bytes)))


def usable_cores() -> int:
    """Logical cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class TrainLoader(mx.io.DataIter):
    """Iterates one epoch: `steps` full batches with data [B, 3, H, W] and label [B, M, 6] padded with -1.

    label rows: (class, xmin, ymin, xmax, ymax, difficult), corners 0..1 of the network input, real ones first.
    steps = pictures // batch size. The pictures an epoch leaves over open the next one, so that over the epochs all
    are seen equally often. A batch is valid until the next is asked for: MXNet reuses its memory.
    """

    def __init__(self, iterator: Any, records: Records, shape: tuple[int, int, int]) -> None:
        """shape: (B, M, numbers per object)."""
        super().__init__(shape[0])
        self._iterator = iterator
        self._records = records
        self._step = 0
        self.steps = records.count // shape[0]
        self.provide_data = iterator.provide_data
        self.provide_label = [mx.io.DataDesc("label", shape)]

    def reset(self) -> None:
        """Starts the next epoch, also in the middle of one."""
        self._step = 0

    def next(self) -> Any:
        if self._step == self.steps:
            raise StopIteration
        self._step += 1
        batch = self._next_of_stream()
        label = batch.label[0].slice_axis(axis=1, begin=ROW_HEADER + len(HEADER), end=None)
        return mx.io.DataBatch(
            data=batch.data,
            label=[label.reshape(self.provide_label[0].shape)],
            pad=0,
            index=batch.index,
            provide_data=self.provide_data,
            provide_label=self.provide_label,
        )

    def names(self, batch: Any) -> list[str]:
        """Files of a batch's pictures, as the .lst names them."""
        lines = (line.split("\t") for line in self._records.lst.read_text(encoding="utf-8").splitlines())
        paths = {int(columns[0]): columns[-1] for columns in lines}
        return [paths[int(index)] for index in batch.index]

    def _next_of_stream(self) -> Any:
        """The next batch of the pictures in endless passes; the last batch of a pass is filled from the next pass."""
        with _damage_named(self._records):
            try:
                return self._iterator.next()
            except StopIteration:
                self._iterator.reset()
                return self._iterator.next()


@contextmanager
def _damage_named(records: Records) -> Iterator[None]:
    """Turns what MXNet says of a file or a record that it cannot read into a UserError that names the file."""
    try:
        yield
    except mx.base.MXNetError as error:
        reason = str(error).strip().splitlines()[-1].removeprefix("MXNetError: ")
        raise UserError(
            f"{records.rec}: MXNet cannot read it ({reason}); if damaged, delete its folder to pack it anew"
        ) from error


def _normalisation(spec: Any) -> dict[str, float]:
    values: dict[str, float] = {}
    for channel, mean, std in zip("rgb", spec.mean, spec.std, strict=True):
        values |= {f"mean_{channel}": mean, f"std_{channel}": std}
    return values
