"""Images without objects teach the background: fewer false alarms on them, and nothing lost on the others."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd.checkpoint.model import Model, ModelSpec
from ssd.config.compose import compose
from ssd.config.parts import loader_config, trainer_config
from ssd.data.base import Sample, empty_boxes
from ssd.data.datasets.build import make_dataset
from ssd.data.loaders.build import make_train_loader
from ssd.data.recordio.cache import ensure_records, label_width
from ssd.detection.detector import Detector
from ssd.evaluation.measure import evaluate
from ssd.jobs.common import seed_everything
from ssd.training.trainer import Trainer

SIZE = 128


def textured(folder: Path, count: int, seed: int) -> list[Sample]:
    """Images of stripes, checks and blobs, unlike the background of the generated shapes, and without any shape."""
    folder.mkdir(parents=True)
    samples = []
    for number in range(count):
        random = np.random.default_rng([seed, number])
        x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
        angle, width = random.uniform(0, np.pi), random.uniform(6, 24)
        waves = [np.sin((x * np.cos(a) + y * np.sin(a)) / width * 2) for a in (angle, angle + 1.6)]
        cells = random.normal(0, 1, (8, 8)).astype(np.float32)
        blobs = cv2.resize(cells, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        pattern = [np.sign(waves[0] * waves[1]), np.sign(waves[0]), blobs][number % 3]
        image = 128 + pattern[..., None] * random.uniform(-90, 90, 3) + random.normal(0, 4, (SIZE, SIZE, 3))
        path = folder / f"empty_{number:03d}.jpg"
        cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))
        samples.append(Sample(path.stem, path, SIZE, SIZE, empty_boxes()))
    return samples


def trained(min_negatives: int, epochs: int, train: list[Sample], folder: Path) -> Detector:
    cfg = compose([f"matching.min_negatives={min_negatives}", "augment=none", f"epochs={epochs}"])
    seed_everything(3)
    loader = make_train_loader(ensure_records(train, folder, "train", seed=0), loader_config(cfg), label_width(train))
    trainer = Trainer(trainer_config(cfg), cfg.dataset.classes, loader, epochs * loader.steps)
    for _ in range(epochs):
        loader.reset()
        for _ in range(loader.steps):
            assert trainer.step(loader.next()).finite
    spec = ModelSpec.from_config(cfg, cfg.dataset.classes)
    return Detector(Model(spec, trainer.symbol, *trainer.params()), trainer.devices[0], cfg.batch_size)


@pytest.mark.slow
def test_false_alarms_on_empty_images_drop(tmp_path: Path) -> None:
    cfg = compose(["dataset.train=120", "dataset.val=40", f"dataset.root={tmp_path}"])
    shapes = make_dataset(cfg.dataset)
    train = shapes.split("train") + textured(tmp_path / "train_empty", 36, seed=0)
    empty = textured(tmp_path / "val_empty", 40, seed=1)
    alarms, precision = {}, {}
    rules = compose([]).metric
    for count in (0, compose([]).matching.min_negatives):
        detector = trained(count, 12, train, tmp_path / "records")
        found = evaluate(detector, empty, rules).detections
        alarms[count] = sum(int((rows[:, 1] >= 0.4).sum()) for rows in found)
        precision[count] = evaluate(detector, shapes.split("val"), rules).values()["map_area"]
    off, on = alarms
    assert alarms[off] >= 10
    assert alarms[on] <= alarms[off] / 2
    assert precision[on] >= precision[off] - 0.05
