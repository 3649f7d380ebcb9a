"""job=eval: any trained model measured on any split."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from ssd.detection.detector import Detector
from ssd.errors import UserError
from ssd.evaluation.measure import measure
from ssd.jobs.common import ap_table, open_dataset, start_events, tell_results
from ssd.model import load_model
from ssd.training.trainer import contexts

log = logging.getLogger(__name__)


def run(cfg: DictConfig, folder: Path) -> float:
    """Measures cfg.model on split cfg.job.split; returns its mAP (11-point)."""
    if cfg.model is None:
        raise UserError("job=eval needs model=: a run directory or a prefix-0012.params file")
    model = load_model(cfg.model)
    dataset = open_dataset(cfg)
    if list(dataset.classes) != model.spec.classes:
        raise UserError(
            f"model {cfg.model} knows {len(model.spec.classes)} classes ({', '.join(model.spec.classes)}), "
            f"dataset {cfg.dataset.name} has {len(dataset.classes)} ({', '.join(dataset.classes)}); "
            "choose the data set that fits the model"
        )
    samples = dataset.split(cfg.job.split)
    detector = Detector(model, contexts(cfg.device)[0], cfg.batch_size, cfg.model)
    with start_events(cfg, folder, 0) as events:
        log.info("measuring %s on the %d images of %s", cfg.model, len(samples), cfg.job.split)
        measured = measure(detector, samples)
        values = measured.values()
        measured.tell(events, 0, cfg.training.samples)
        places = events.where()
        events.close("finished", values)
    tell_results(folder, places, ap_table(values, detector.classes))
    return values["val/map_11pt"]
