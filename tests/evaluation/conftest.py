"""Random cases for the metric tests."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ssd.data.base import Sample
from ssd.evaluation.analysis import Analysis, analyze
from ssd.evaluation.measure import EvalResult
from ssd.evaluation.thresholds import choose_thresholds

Case = tuple[list[np.ndarray], list[np.ndarray]]


@pytest.fixture(scope="session")
def random_case() -> Callable[..., Case]:
    """random_case(seed, images=8, classes=3) -> ground truth, detections."""
    return _random_case


def _random_case(seed: int, images: int = 8, classes: int = 3) -> Case:
    """Objects, and detections that are sometimes near them; all scores different."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    scores = rng.permutation(1000) / 1000
    for image in range(images):
        objects, count = rng.integers(0, 4), rng.integers(0, 8)
        corner, side = rng.uniform(0, 50, (objects, 2)), rng.uniform(5, 40, (objects, 2))
        boxes = np.concatenate([corner, corner + side], axis=1)
        label = rng.integers(0, classes, objects)
        truth.append(np.column_stack([label, boxes, rng.random(objects) < 0.2]))
        guess = rng.uniform(0, 50, (count, 4))
        guess[:, 2:] += guess[:, :2]
        guessed = rng.integers(0, classes, count)
        if objects:
            near = rng.integers(0, objects, count)
            close = rng.random(count) < 0.7
            guess[close] = (boxes[near] + rng.normal(0, 3, (count, 4)))[close]
            guessed[close] = label[near][close]
        found.append(np.column_stack([guessed, scores[image * 8 : image * 8 + count], guess]))
    return truth, found


NAMES = ["a <b>", "c&d", "e"]


@pytest.fixture(scope="session")
def measurement(tmp_path_factory: pytest.TempPathFactory, random_case) -> tuple[EvalResult, Analysis]:
    folder = tmp_path_factory.mktemp("images")
    truth, found = random_case(4, images=6)
    samples = []
    for index, boxes in enumerate(truth):
        path = folder / f"{index:03d}.png"
        cv2.imwrite(str(path), np.full((100, 120, 3), 40 * index, np.uint8))
        samples.append(Sample(f"{index:03d}", Path(path), 120, 100, boxes.astype(np.float32)))
    found = [rows[np.argsort(-rows[:, 1])].astype(np.float32) for rows in found]
    rules = SimpleNamespace(iou=0.5, coco=True, compat=None)
    measured = EvalResult.of(samples, found, NAMES, rules)
    return measured, analyze(measured.joined, measured.voc, rules, choose_thresholds(measured.voc, "val", None))
