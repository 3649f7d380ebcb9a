"""Some training batches from the loader that trains, of a few images packed for the purpose."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ssd.config.parts import InputSpec, LoaderConfig
from ssd.data.base import Sample
from ssd.data.loaders.build import make_train_loader
from ssd.data.recordio.cache import ensure_records

Batch = tuple[np.ndarray, np.ndarray]  # pixels uint8 [B, H, W, 3] RGB, label [B, M, 6] padded with -1


def augmented_batches(config: LoaderConfig, samples: Sequence[Sample], number: int, folder: Path) -> list[Batch]:
    """`number` passes over the samples (which must be readable), each a batch, augmented as in training.

    folder: where to pack them; nothing stays there. Errors: UserError of the augmentation's options.
    """
    with TemporaryDirectory(dir=folder) as records:
        packed = ensure_records(samples, Path(records), "train", seed=0)
        with make_train_loader(packed, replace(config, batch_size=len(samples)), packed.label_width) as loader:
            batches = []
            for _ in range(number):
                loader.reset()
                batch = loader.next()
                # MXNet reuses the memory of a batch: asnumpy() copies it.
                batches.append((batch_pixels(batch, config.input), batch.label[0].asnumpy()))
    return batches


def batch_pixels(batch: Any, spec: InputSpec) -> np.ndarray:
    """uint8 RGB [B, H, W, 3] of a batch's data [B, 3, H, W]: bytes as they are, floats with normalization undone."""
    data = batch.data[0].asnumpy().transpose(0, 2, 3, 1)
    if data.dtype == np.uint8:
        return np.ascontiguousarray(data)
    levels = data * np.array(spec.std, np.float32) + np.array(spec.mean, np.float32)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
