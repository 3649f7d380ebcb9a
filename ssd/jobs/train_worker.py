"""job=train as the workers other than the first do it: their share of every step, and nothing else."""

from omegaconf import DictConfig

from ssd.checkpoint.index import sha256
from ssd.data.loaders.base import Share
from ssd.data.loaders.build import make_train_loader
from ssd.data.recordio.cache import in_use, label_width
from ssd.jobs.common import open_gate, packed, seed_everything, training_splits
from ssd.launch.worker import Member
from ssd.training.allreduce import Exchange
from ssd.training.broadcast import read_beginning
from ssd.training.fit import timed
from ssd.training.trainer import Trainer


def follow(cfg: DictConfig, member: Member, share: Share) -> None:
    """Takes steps until worker 0 says that it is over, or until there are no more. Errors: UserError of the data."""
    seed_everything(cfg.seed)
    cfg.training.ema = 0.0  # worker 0 keeps the averages
    gate = open_gate(cfg)
    admitted = gate.admit(training_splits(cfg, gate.dataset), None, may_be_empty=["test"])
    train, val = admitted.samples["train"], admitted.samples["val"]
    records = packed(cfg, gate.dataset, "train", admitted)
    with in_use(records), make_train_loader(records, cfg, max(label_width(train), label_width(val)), share) as loader:
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
