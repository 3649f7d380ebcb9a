"""job=train as the workers other than the first do it: their share of every step, and nothing else."""

from dataclasses import replace

from omegaconf import DictConfig

from ssd.checkpoint.index import sha256
from ssd.config.parts import loader_config, trainer_config
from ssd.data.loaders.base import Shard
from ssd.jobs.common import open_gate, seed_everything
from ssd.jobs.runtime import with_classes
from ssd.jobs.training_data import read_training_data
from ssd.launch.worker import WorkerProcess
from ssd.training.distributed import GradientAllReduce, read_beginning
from ssd.training.fit import timed_batches
from ssd.training.precision import prepare
from ssd.training.trainer import Trainer


def train_worker(cfg: DictConfig, member: WorkerProcess, share: Shard) -> None:
    """Takes steps until worker 0 says that it is over, or until there are no more. Errors: UserError of the machine or
    the data."""
    seed_everything(cfg.seed)
    config = replace(trainer_config(cfg), ema=0.0)  # worker 0 averages
    prepare(config)
    gate = open_gate(cfg)
    cfg = with_classes(cfg, gate.classes)
    data = read_training_data(cfg, gate, None)
    with data.open_loader(loader_config(cfg), share) as loader:
        start = read_beginning(*member.receive(), sha256(data.records.idx))
        params = start.group("arg"), start.group("aux")
        trainer = Trainer(config, gate.classes, loader, cfg.epochs * loader.steps, params)
        trainer.restore({"optimizer": start.group("optimizer")}, start.updates, params)
        trainer.exchange = GradientAllReduce(share.rank, share.workers, trainer.gradients, member.wait)
        step = start.step
        while step < cfg.epochs * loader.steps:
            for batch, _ in timed_batches(loader, *divmod(step, loader.steps)):
                trainer.step(batch, step)
                step += 1
