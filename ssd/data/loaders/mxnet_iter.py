"""Training batches from records, by the C++ iterator of MXNet."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2

from ssd.config.augment import Augment, Crop
from ssd.config.parts import InputSpec, LoaderConfig
from ssd.data.loaders.base import Shard, TrainLoader, describe, label_rows
from ssd.data.recordio.cache import HEADER, Records
from ssd.data.recordio.reader import read_list
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError
from ssd.utils.process import usable_cores

log = logging.getLogger(__name__)

ROW_HEADER = 4  # MXNet puts [channels, rows, columns, label length] before each image's label
READ_BYTES = 8 << 20  # MXNet reads, decodes and shuffles this much of the records at a time
DECODED_BYTES = 400_000_000  # of the images decoded at a time; MXNet keeps three to four such lots in memory
RANDOM = 10  # inter_method that picks one of OpenCV's five per image


class RecordLoader(TrainLoader):
    """A batch is valid until the next is asked for: MXNet reuses its memory.

    Of several workers each reads its own part of the file; their batches together are none that one alone would read.
    """

    def __init__(self, records: Records, loader: LoaderConfig, label_width: int, share: Shard) -> None:
        """Errors: UserError for what the C++ iterator cannot do."""
        super().__init__(loader.batch_size)
        rows = label_rows(label_width, records)
        check_iterator(loader)
        size = loader.input.shape
        count = len(share.of(loader.batch_size))
        options = dict(
            path_imgrec=str(records.rec),
            data_shape=(3, *size),
            batch_size=count,
            part_index=share.rank,
            num_parts=share.workers,
            label_width=-1,
            label_pad_width=len(HEADER) + records.object_width * rows,
            label_pad_value=-1.0,
            shuffle=True,
            seed=loader.seed,
            shuffle_chunk_size=_shuffle_piece(records, size),
            shuffle_chunk_seed=loader.seed,
            round_batch=True,
            prefetch_buffer=loader.prefetch,
            preprocess_threads=loader.workers or usable_cores(),
            resize_mode="force",
            verbose=False,
            ctx=loader.device,
            **_normalization(loader.input),
            **iterator_options(loader.augment),
        )
        with _damage_named(records):  # MXNet decodes a first batch at once
            self._iterator = mx.io.ImageDetRecordIter(**options)
        self._records = records
        self._step = 0
        self._given = 0  # batches, of all epochs
        self.steps = records.count // loader.batch_size
        self.provide_data, self.provide_label = describe((count, 3, *size), (rows, records.object_width), "float32")

    def reset(self) -> None:
        self._step = 0

    def start(self, epoch: int, batch: int) -> None:
        """MXNet's iterator cannot jump: the batches before are made and thrown away. Errors: UserError to go back."""
        missing = epoch * self.steps + batch - self._given
        if missing < 0:
            raise UserError("MXNet's iterator cannot go back; use loader=fast")
        if missing:
            log.info("making %d batches again to be where the run was; loader=fast need not", missing)
        for _ in range(missing):
            self._next_of_stream()
        self._step = batch

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
        paths = read_list(self._records.lst)
        return [paths[int(index)] for index in batch.index]

    def _next_of_stream(self) -> Any:
        """The next batch of the images in endless passes; the last batch of a pass is filled from the next pass."""
        with _damage_named(self._records):
            try:
                found = self._iterator.next()
            except StopIteration:
                self._iterator.reset()
                found = self._iterator.next()
        self._given += 1
        return found


def check_iterator(loader: LoaderConfig) -> None:
    """Errors: UserError for what the C++ iterator cannot do."""
    if (mode := loader.input.resize_mode) != "force":
        raise UserError(f"resize_mode={mode}: MXNet's iterator leaves the labels unscaled; use loader=fast")
    iterator_options(loader.augment)


def iterator_options(augment: Augment) -> dict[str, Any]:
    """Parameters of mx.io.ImageDetRecordIter. Its order: color, mirror, pad, crop, resize to the input.

    Errors: UserError for what it cannot do.
    """
    for key, value in (("mosaic.probability", augment.mosaic.probability), ("mixup.probability",
                       augment.mixup.probability), ("contrast_first", augment.contrast_first),
                       ("multi_scale.factors", augment.multi_scale.factors)):  # fmt: skip
        if value:
            raise UserError(
                f"augment.{key}={value} (augment={augment.name}): MXNet's iterator has none; use loader=fast"
            )
    return {
        "rand_mirror_prob": augment.mirror,
        "rand_pad_prob": augment.pad.probability,
        "max_pad_scale": augment.pad.max_scale,
        "fill_value": augment.pad.fill,
        "random_hue_prob": augment.hue.probability,
        "max_random_hue": int(augment.hue.amount),
        "random_saturation_prob": augment.saturation.probability,
        "max_random_saturation": int(augment.saturation.amount),
        "random_illumination_prob": augment.illumination.probability,
        "max_random_illumination": int(augment.illumination.amount),
        "random_contrast_prob": augment.contrast.probability,
        "max_random_contrast": augment.contrast.amount,
        "inter_method": RANDOM if augment.interpolation == "random" else cv2.INTER_LINEAR,
        **_crop_options(augment.crop),
    }


def _crop_options(crop: Crop) -> dict[str, Any]:
    """One sampler per overlap; MXNet tries them in random order and takes the first crop that satisfies one."""
    samplers = len(crop.overlaps)
    if not samplers or crop.probability <= 0:
        return {"rand_crop_prob": 0.0, "num_crop_sampler": 0}
    return {
        "rand_crop_prob": crop.probability,
        "num_crop_sampler": samplers,
        "min_crop_scales": (crop.scales[0],) * samplers,
        "max_crop_scales": (crop.scales[1],) * samplers,
        "min_crop_aspect_ratios": (crop.aspect_ratios[0],) * samplers,
        "max_crop_aspect_ratios": (crop.aspect_ratios[1],) * samplers,
        "min_crop_overlaps": tuple(crop.overlaps),
        "max_crop_overlaps": (1.0,) * samplers,
        "min_crop_sample_coverages": (0.0,) * samplers,
        "max_crop_sample_coverages": (1.0,) * samplers,
        "min_crop_object_coverages": (0.0,) * samplers,
        "max_crop_object_coverages": (1.0,) * samplers,
        "max_crop_trials": (crop.trials,) * samplers,
        "crop_emit_mode": "center",  # an object stays when its center lies inside the crop
    }


def _shuffle_piece(records: Records, size: tuple[int, int]) -> int:
    """shuffle_chunk_size: MB of the pieces a file is cut into, 0 to leave it whole.

    A file that is read at once is shuffled freely. A larger one, or one that would fill the memory when decoded, is
    cut: the order of the pieces and of the images in each is new in every pass, and the packing has shuffled which
    images share one. (Below 4 MB MXNet warns that the pieces are small, which they are meant to be.)
    """
    file_bytes = records.rec.stat().st_size
    decoded_bytes = records.count * 3 * size[0] * size[1] * 4
    if file_bytes <= READ_BYTES and decoded_bytes <= DECODED_BYTES:
        return 0
    return max(1, min(4, int(file_bytes / 1e6 * DECODED_BYTES / decoded_bytes)))


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


def _normalization(spec: InputSpec) -> dict[str, float]:
    values: dict[str, float] = {}
    for channel, mean, std in zip("rgb", spec.mean, spec.std, strict=True):
        values |= {f"mean_{channel}": mean, f"std_{channel}": std}
    return values
