"""job=eval: any trained model measured on any split."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from ssd.errors import UserError
from ssd.evaluation.measure import measure
from ssd.interop.models import KINDS
from ssd.jobs.common import Course, Subject, ap_table, open_detector, open_gate, report, start_events, tell_results

log = logging.getLogger(__name__)


def run(cfg: DictConfig, folder: Path) -> float:
    """Measures cfg.model on split cfg.job.split; returns its mAP (11-point)."""
    if cfg.model is None:
        raise UserError(f"job=eval needs model=: {KINDS}")
    detector = open_detector(cfg)
    gate = open_gate(cfg)
    dataset = gate.dataset
    if list(gate.classes) != detector.classes:
        raise UserError(
            f"model {cfg.model} knows {len(detector.classes)} classes ({', '.join(detector.classes)}), "
            f"dataset {cfg.dataset.name} has {len(gate.classes)} ({', '.join(gate.classes)}); "
            "choose the data set that fits the model"
        )
    samples = gate.admit([cfg.job.split], folder).samples[cfg.job.split]
    with start_events(cfg, folder, Course(0, len(samples)), {cfg.job.split: samples}) as events:
        log.info("measuring %s on the %d images of %s", cfg.model, len(samples), cfg.job.split)
        measured = measure(detector, samples, cfg.metric, lambda done: events.progress(1, done, {}))
        measured.tell(events, 0, cfg.training.samples)
        subject = Subject(cfg.model, cfg.job.split, dataset.split_category_ids(cfg.job.split))
        values = report(cfg, folder, measured, subject)
        events.artifact(folder / "report.html", "report")
        places = events.where()
        events.close("finished", values)
    tell_results(folder, places, ap_table(values, detector.classes))
    return values["val/map_11pt"]
