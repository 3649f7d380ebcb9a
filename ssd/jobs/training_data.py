"""The data of a training: its splits, validated, and the records and loader of the training images."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig

from ssd.config.parts import LoaderConfig, loader_config
from ssd.data.base import Dataset, Sample
from ssd.data.datasets.fingerprint import same_images
from ssd.data.inspection.gate import Admitted, Gate
from ssd.data.inspection.problems import Problem
from ssd.data.loaders.base import Shard, TrainLoader
from ssd.data.loaders.build import check_loader, make_train_loader
from ssd.data.recordio.cache import Records, ensure_records, in_use, label_width
from ssd.utils.names import file_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """samples: by split, train, val and perhaps test. skipped: why others were left out. records: of train."""

    dataset: Dataset
    samples: Mapping[str, Sequence[Sample]]
    skipped: Mapping[str, Sequence[Problem]]
    records: Records

    @cached_property
    def evaluated(self) -> dict[str, Sequence[Sample]]:
        """The splits that the best checkpoint is evaluated on, val first."""
        val, test = self.samples["val"], self.samples.get("test", [])
        if not test or self.same_as_val:
            return {"val": val}
        if not any((sample.boxes[:, 5] == 0).any() for sample in test):
            log.info("test is not evaluated: none of its %d images has an object", len(test))
            return {"val": val}
        return {"val": val, "test": test}

    @cached_property
    def same_as_val(self) -> str | None:
        """ "test" where that split is the same images as val."""
        test = self.samples.get("test", [])
        return "test" if test and same_images(test, self.samples["val"]) else None

    @contextmanager
    def open_loader(self, loader: LoaderConfig, share: Shard) -> Iterator[TrainLoader]:
        """The batches of training, or this share of each. Errors: UserError, see make_train_loader."""
        # One width for both splits: a Module is bound to one shape, whichever split it is fed.
        width = max(label_width(self.samples[split]) for split in ("train", "val"))
        with in_use(self.records), make_train_loader(self.records, loader, width, share) as made:
            yield made


def read_training_data(cfg: DictConfig, gate: Gate, folder: Path | None) -> TrainingData:
    """Validates the splits and caches the records of train. folder: where problems are listed. Errors: UserError of the
    dataset, or of a loader that cannot make such batches."""
    dataset = gate.dataset
    splits = ["train", "val", *(["test"] if cfg.training.test and "test" in dataset.available else [])]
    admitted = gate.admit(splits, folder, may_be_empty=["test"])
    check_loader(loader_config(cfg), len(admitted.samples["train"]))
    records = make_records(cfg, dataset, "train", admitted)
    return TrainingData(dataset, admitted.samples, admitted.skipped, records)


def make_records(cfg: DictConfig, dataset: Dataset, split: str, admitted: Admitted) -> Records:
    """The records of a split: those that the dataset consists of if they can be used, else written on first use."""
    folder = Path(cfg.training.records) / file_name(str(cfg.dataset.name))
    samples, whole = admitted.samples[split], split not in admitted.skipped
    existing = dataset.records(split, folder) if whole and cfg.training.max_side is None else None
    # Written in one order for all seeds, so that a sweep over them shares the files; the loader shuffles by cfg.seed.
    return existing or ensure_records(samples, folder, split, seed=0, max_side=cfg.training.max_side)
