"""Which anchors learn, against numpy."""

import numpy as np
import pytest
from omegaconf import DictConfig

from ssd.engine import mx
from ssd.symbol.multibox import MultiBox
from ssd.symbol.targets import build_targets

ANCHORS, CLASSES, RATIO = 64, 3, 3


def boxes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    low = rng.uniform(0, 0.7, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(0.1, 0.3, (*shape, 2))], axis=-1)


def example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Anchors [1, N, 4], labels [B, M, 6], scores [B, C + 1, N]; the last picture is empty."""
    rng = np.random.default_rng(0)
    anchors = boxes(rng, (1, ANCHORS))
    label = np.full((4, 3, 6), -1.0)
    for image, count in zip(label, (1, 3, 2, 0), strict=True):
        for row in image[:count]:
            row[:] = [rng.integers(CLASSES), *anchors[0, rng.integers(ANCHORS)] + rng.normal(0, 0.01, 4), 0]
    return anchors, label, rng.normal(0, 2, (4, CLASSES + 1, ANCHORS))


def targets(cfg: DictConfig) -> np.ndarray:
    anchors, label, scores = example()
    heads = MultiBox(mx.sym.Variable("scores"), mx.sym.Variable("loc"), mx.sym.Variable("anchors"))
    values = {"scores": scores, "anchors": anchors, "label": label}
    executor = build_targets(heads, cfg).cls.simple_bind(
        mx.cpu(), grad_req="null", **{name: array.shape for name, array in values.items()}
    )
    return executor.forward(**{name: mx.nd.array(array) for name, array in values.items()})[0].asnumpy()


def losses() -> np.ndarray:
    """Cross-entropy of background [B, N]."""
    scores = example()[2]
    return np.log(np.exp(scores).sum(axis=1)) - scores[:, 0]


@pytest.fixture
def cfg(configure) -> DictConfig:
    copy = configure()
    copy.matching.min_negatives = 0
    return copy


def every(cfg: DictConfig) -> np.ndarray:
    other = cfg.copy()
    other.loss.classification = "focal"
    return targets(other)


def test_focal_loss_learns_from_all_anchors_of_all_pictures(cfg: DictConfig) -> None:
    found = every(cfg)
    assert found.min() == 0
    assert (found[:3] > 0).any(axis=1).all()
    assert not found[3].any()


def test_mining_in_a_picture_is_mining_by_the_loss(cfg: DictConfig) -> None:
    """MultiBoxTarget takes the least probable backgrounds: the largest cross-entropies (SSD paper, section 2.2)."""
    found, positives = targets(cfg), every(cfg)
    for image in range(3):
        negatives = np.flatnonzero(positives[image] == 0)
        count = RATIO * int((positives[image] > 0).sum())
        hardest = negatives[np.argsort(-losses()[image][negatives])][:count]
        wanted = np.full(ANCHORS, -1.0)
        wanted[positives[image] > 0] = positives[image][positives[image] > 0]
        wanted[hardest] = 0
        np.testing.assert_array_equal(found[image], wanted)
    assert (found[3] == -1).all()


@pytest.mark.parametrize(("ratio", "least"), [(3.0, 0), (1.0, 0), (0.0, 7), (1000.0, 0)])
def test_mining_over_the_batch(cfg: DictConfig, ratio: float, least: int) -> None:
    cfg.matching.mining, cfg.matching.negative_ratio, cfg.matching.min_negatives = "batch", ratio, least
    found, positives = targets(cfg).ravel(), every(cfg).ravel()
    negatives = np.flatnonzero(positives == 0)
    count = int(max(ratio * (positives > 0).sum(), least))
    wanted = np.full(positives.size, -1.0)
    wanted[positives > 0] = positives[positives > 0]
    wanted[negatives[np.argsort(-losses().ravel()[negatives])][:count]] = 0
    np.testing.assert_array_equal(found, wanted)


def test_the_hardest_of_the_batch_may_lie_in_a_picture_without_objects(cfg: DictConfig) -> None:
    cfg.matching.mining = "batch"
    assert (targets(cfg)[3] == 0).any()
