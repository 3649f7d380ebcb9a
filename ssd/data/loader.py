"""Training batches from records: which loader makes them is the group `loader`."""

from omegaconf import DictConfig

from ssd.data.batches import TrainLoader
from ssd.data.fast_loader import FastLoader
from ssd.data.record_loader import RecordLoader
from ssd.data.records import Records
from ssd.data.share import Share
from ssd.errors import UserError

LOADERS = {"fast": FastLoader, "record": RecordLoader}


def make_train_loader(
    records: Records,
    cfg: DictConfig,
    label_width: int,
    share: Share = Share(),  # noqa: B008 - it is a constant
) -> TrainLoader:
    """Endless shuffled batches of `records`, cut into epochs of whole batches.

    cfg: the whole configuration; read are batch_size, epochs, seed, loader, augment, data_shape, resize_mode, compat,
    backbone.input and device. label_width: label_pad_width of the training labels, records.label_width or more.
    share: the part of every batch that is made, of cfg.batch_size pictures.
    UserError when the batch is larger than the data set, or for what the chosen loader cannot do.
    """
    if cfg.loader.name not in LOADERS:
        raise UserError(f"loader.name is {cfg.loader.name!r}, it must be one of {', '.join(LOADERS)}")
    if cfg.batch_size > records.count:
        raise UserError(
            f"batch_size is {cfg.batch_size} but there are only {records.count} pictures to train on: "
            f"batch_size={records.count} or less"
        )
    return LOADERS[cfg.loader.name](records, cfg, label_width, share)
