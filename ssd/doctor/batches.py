"""Some training batches from the loader that trains, of a few pictures packed for the purpose."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from omegaconf import DictConfig

from ssd.data.dataset import Sample
from ssd.data.loader import make_train_loader
from ssd.data.records import ensure_records

Batch = tuple[np.ndarray, np.ndarray]  # data [B, 3, H, W] normalised, label [B, M, 6] padded with -1


def augmented_batches(cfg: DictConfig, samples: Sequence[Sample], number: int, folder: Path) -> list[Batch]:
    """`number` passes over the samples (which must be readable), each a batch, augmented as in training.

    folder: where to pack them; nothing stays there. Errors: UserError of the augmentation's options.
    """
    cfg = cfg.copy()
    cfg.batch_size = len(samples)
    with TemporaryDirectory(dir=folder) as records:
        packed = ensure_records(samples, Path(records), "train", seed=0)
        loader = make_train_loader(packed, cfg, packed.label_width)
        batches = []
        for _ in range(number):
            loader.reset()
            batch = loader.next()
            # MXNet reuses the memory of a batch: asnumpy() copies it.
            batches.append((batch.data[0].asnumpy(), batch.label[0].asnumpy()))
    return batches
