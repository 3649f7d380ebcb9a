"""A measurement of a few drawn pictures, without a network."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ssd.data.dataset import Sample
from ssd.evaluation import evaluate_voc
from ssd.evaluation.analysis import Analysis, analyse
from ssd.evaluation.measure import Measured
from ssd.evaluation.thresholds import choose_thresholds

NAMES = ["a <b>", "c&d", "e"]


@pytest.fixture(scope="session")
def measurement(tmp_path_factory: pytest.TempPathFactory, random_case) -> tuple[Measured, Analysis]:
    folder = tmp_path_factory.mktemp("pictures")
    truth, found = random_case(4, images=6)
    samples = []
    for index, boxes in enumerate(truth):
        path = folder / f"{index:03d}.png"
        cv2.imwrite(str(path), np.full((100, 120, 3), 40 * index, np.uint8))
        samples.append(Sample(f"{index:03d}", Path(path), 120, 100, boxes.astype(np.float32)))
    found = [rows[np.argsort(-rows[:, 1])].astype(np.float32) for rows in found]
    measured = Measured(samples, found, evaluate_voc([sample.boxes for sample in samples], found, 3), NAMES)
    thresholds = choose_thresholds(measured.voc, "val", None)
    return measured, analyse(measured.truth, found, measured.voc, SimpleNamespace(iou=0.5, coco=True), thresholds)
