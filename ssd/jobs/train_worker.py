"""job=train as the workers other than the first do it: their share of every step, and nothing else."""

from omegaconf import DictConfig

from ssd.checkpoint.index import sha256
from ssd.config.parts import loader_config
from ssd.data.loaders.base import Share
from ssd.data.loaders.build import make_train_loader
from ssd.data.recordio.cache import in_use, label_width
from ssd.jobs.common import open_gate, packed, seed_everything, training_splits
from ssd.jobs.runtime import with_classes
from ssd.launch.worker import Member
from ssd.training.allreduce import Exchange
from ssd.training.broadcast import read_beginning
from ssd.training.fit import timed
from ssd.training.trainer import Trainer


def follow(cfg: DictConfig, member: Member, share: Share) -> None:
    """Takes steps until worker 0 says that it is over, or until there are no more. Errors: UserError of the data."""
    seed_everything(cfg.seed)
    gate = open_gate(cfg)
    cfg = with_classes(cfg, gate.classes)
    admitted = gate.admit(training_splits(cfg, gate.dataset), None, may_be_empty=["test"])
    train, val = admitted.samples["train"], admitted.samples["val"]
    records = packed(cfg, gate.dataset, "train", admitted)
    width = max(label_width(train), label_width(val))
    with in_use(records), make_train_loader(records, loader_config(cfg), width, share) as loader:
        start = read_beginning(*member.receive(), sha256(records.idx))
        params = start.group("arg"), start.group("aux")
        trainer = Trainer(cfg, gate.classes, loader, cfg.epochs * loader.steps, params)
        trainer.restore({"optimizer": start.group("optimizer")}, start.updates, params)
        trainer.exchange = Exchange(share.rank, share.workers, trainer.gradients, member.wait)
        step = start.step
        while step < cfg.epochs * loader.steps:
            for batch, _ in timed(loader, *divmod(step, loader.steps)):
                trainer.step(batch, step)
                step += 1
