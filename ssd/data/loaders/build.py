"""Training batches from records: which loader makes them is the group `loader`."""

from ssd.config.parts import LoaderConfig
from ssd.data.loaders.base import Shard, TrainLoader
from ssd.data.loaders.fast import FastLoader
from ssd.data.loaders.mxnet_iter import RecordLoader, check_iterator
from ssd.data.recordio.cache import Records
from ssd.utils.errors import UserError

LOADERS = {"fast": FastLoader, "record": RecordLoader}


def make_train_loader(
    records: Records,
    loader: LoaderConfig,
    label_width: int,
    share: Shard = Shard(),  # noqa: B008 - it is a constant
) -> TrainLoader:
    """Endless shuffled batches of `records`, cut into epochs of whole batches.

    label_width: label_pad_width of the training labels, records.label_width or more. share: the part of every batch
    that is made.
    Errors: UserError, see check_loader().
    """
    check_loader(loader, records.count)
    return LOADERS[loader.name](records, loader, label_width, share)


def check_loader(loader: LoaderConfig, count: int) -> None:
    """Whether the loader can make batches of `count` images: before they are packed for nothing. Errors: UserError when
    a batch is larger than that, or for what the chosen loader cannot do."""
    if loader.name not in LOADERS:
        raise UserError(f"loader.name={loader.name}: expected {' or '.join(LOADERS)}")
    if loader.batch_size > count:
        raise UserError(
            f"batch_size={loader.batch_size}: there are only {count} images to train on; "
            f"take batch_size={count} or less"
        )
    if loader.name == "record":
        check_iterator(loader)
