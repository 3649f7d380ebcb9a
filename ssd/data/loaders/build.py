"""Training batches from records: which loader makes them is the group `loader`."""

from omegaconf import DictConfig

from ssd.data.loaders.base import Share, TrainLoader
from ssd.data.loaders.fast import FastLoader
from ssd.data.loaders.mxnet_iter import RecordLoader, check_iterator
from ssd.data.recordio.cache import Records
from ssd.utils.errors import UserError

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
    Errors: UserError, see check_loader().
    """
    check_loader(cfg, records.count)
    return LOADERS[cfg.loader.name](records, cfg, label_width, share)


def check_loader(cfg: DictConfig, count: int) -> None:
    """Whether the loader can make batches of `count` images: before they are packed for nothing. Errors: UserError when
    a batch is larger than that, or for what the chosen loader cannot do."""
    if cfg.loader.name not in LOADERS:
        raise UserError(f"loader.name is {cfg.loader.name!r}, it must be one of {', '.join(LOADERS)}")
    if cfg.batch_size > count:
        raise UserError(
            f"batch_size is {cfg.batch_size} but there are only {count} pictures to train on: "
            f"batch_size={count} or less"
        )
    if cfg.loader.name == "record":
        check_iterator(cfg)
