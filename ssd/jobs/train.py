"""job=train: data to records, records to batches, batches to a network; then the best epoch measured and shown."""

import logging
import random
import time
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from ssd.data.loader import make_train_loader
from ssd.data.records import label_width
from ssd.detection.detector import Detector
from ssd.engine import mx
from ssd.evaluation.measure import measure
from ssd.jobs.common import METRIC, Subject, ap_table, open_dataset, packed, report, start_events, tell_results
from ssd.model import Model, ModelSpec, load_model, stamp
from ssd.symbol.nodes import graph_nodes
from ssd.training.checkpoint import Checkpoints
from ssd.training.fit import Plan, fit
from ssd.training.trainer import Trainer

log = logging.getLogger(__name__)


def run(cfg: DictConfig, folder: Path) -> float:
    """Trains as configured into the run directory `folder`; returns the validation mAP of the best epoch."""
    seed_everything(cfg.seed)
    dataset = open_dataset(cfg)
    train, val = dataset.split("train"), dataset.split("val")
    # One width for both splits: a Module is bound to one shape, whichever split it is fed.
    width = max(label_width(train), label_width(val))
    records = packed(cfg, dataset, "train", train)
    loader = make_train_loader(records, cfg, width)
    spec = ModelSpec.from_config(cfg, dataset.classes, dataset.category_ids)
    trainer = Trainer(cfg, dataset.classes, loader, cfg.epochs * loader.steps)
    stamp(trainer.symbol, spec)
    detector = Detector(Model(spec, trainer.symbol, *trainer.params()), trainer.devices[0], cfg.batch_size)
    splits = {"train": train, "val": val}
    with loader, start_events(cfg, folder, cfg.epochs, loader.steps, splits) as events:
        log.info(
            "training on %d images, validating on %d; classes: %s", len(train), len(val), ", ".join(dataset.classes)
        )
        events.graph(graph_nodes(trainer.symbol, dict([*loader.provide_data, *loader.provide_label])))
        checkpoints = Checkpoints(folder / "checkpoints", trainer.symbol, METRIC)

        def validate(epoch: int, step: int) -> dict[str, float]:
            started = time.perf_counter()
            detector.set_params(*trainer.params())
            measured = measure(detector, val, cfg.metric)
            measured.tell(events, step, cfg.training.samples)
            return measured.values() | {"val/seconds": time.perf_counter() - started}

        fit(trainer, loader, Plan(cfg.epochs, cfg.training.log_every, cfg.training.validate_every),
            events, validate, checkpoints)  # fmt: skip

        # What counts is the file: the best epoch is read back and measured as anyone would.
        best = load_model(checkpoints.best)
        detector.set_params(best.arg_params, best.aux_params)
        measured = measure(detector, val, cfg.metric)
        measured.tell(events, cfg.epochs * loader.steps, cfg.training.samples)
        subject = Subject(str(checkpoints.best), "val", dataset.category_ids)
        values = report(cfg, folder, measured, subject)
        events.artifact(folder / "report.html", "report")
        for file in (checkpoints.best, checkpoints.symbol):
            events.artifact(file, "checkpoints")
        events.model(checkpoints.best, values)
        places = events.where()
        events.close("finished", values | {"epoch": checkpoints.best_epoch})
    tell_results(folder, places, ap_table(values, detector.classes))
    log.info("%-12s %s (epoch %d)", "checkpoint", checkpoints.best, checkpoints.best_epoch)
    return values[METRIC]


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
