"""The self-test of a network: overfitting a few images. What cannot even do that has an error somewhere."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ssd.checkpoint.model import Model, ModelSpec
from ssd.config.parts import LoaderConfig, NetworkConfig, TrainerConfig
from ssd.data.base import Sample
from ssd.data.loaders.build import make_train_loader
from ssd.data.recordio.cache import ensure_records
from ssd.detection.detector import Detector
from ssd.evaluation.measure import evaluate
from ssd.training.trainer import Trainer

log = logging.getLogger(__name__)

FOUND = 1 - 1e-9  # mAP of a detector that finds everything, and nothing else before it


@dataclass(frozen=True)
class OverfitResult:
    """Where the self-test ended: after how many steps, and the best measurement's mAP (area) and AP by class name."""

    steps: int
    mean: float
    by_class: dict[str, float]

    @property
    def everything(self) -> bool:
        return self.mean >= FOUND


@dataclass(frozen=True)
class SelfTest:
    """How the network is tested. loader: one batch of all images, and as many epochs as there are steps at most.
    measure_every: steps. metric: see ssd.evaluation.measure."""

    loader: LoaderConfig
    network: NetworkConfig
    trainer: TrainerConfig
    measure_every: int
    metric: Any


def overfit(test: SelfTest, samples: Sequence[Sample], classes: Sequence[str], folder: Path) -> OverfitResult:
    """Trains on one batch of all the samples until mAP 1.0 on them or test.loader.epochs steps are over.

    Everything else is as in training: records, loader, network, matching, decoding. folder: where to pack the images;
    nothing stays there. Errors: UserError of any of these.
    """
    steps = test.loader.epochs
    with TemporaryDirectory(dir=folder) as records:
        packed = ensure_records(samples, Path(records), "train", seed=0)
        with make_train_loader(packed, test.loader, packed.label_width) as loader:
            trainer = Trainer(test.trainer, classes, loader, steps)
            spec = ModelSpec.from_config(test.network, classes)
            detector = Detector(Model(spec, trainer.symbol, *trainer.params()), trainer.devices[0], len(samples))
            best = OverfitResult(0, 0.0, {})
            for step in range(1, steps + 1):
                loader.reset()
                losses = trainer.step(loader.next(), step)
                if step % test.measure_every and step < steps:
                    continue
                detector.set_params(*trainer.params())
                values = evaluate(detector, samples, test.metric).values()
                best = max(best, _learned(step, values), key=lambda each: each.mean)
                log.info("step %4d  loss %.4f  mAP %.4f", step, losses.loss, values["map_area"])
                if best.everything or not losses.finite:
                    break
    return best


def _learned(step: int, values: dict[str, float]) -> OverfitResult:
    prefix = "ap_area/"
    by_class = {name.removeprefix(prefix): ap for name, ap in values.items() if name.startswith(prefix)}
    mean = values["map_area"]
    return OverfitResult(
        step, 0.0 if math.isnan(mean) else mean, {name: ap for name, ap in by_class.items() if ap == ap}
    )
