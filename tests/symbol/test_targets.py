"""Which anchors learn, against numpy."""

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from ssd.config.parts import network_config
from ssd.mxnet_compat import mx
from ssd.symbol.losses import class_losses
from ssd.symbol.multibox import MultiBox
from ssd.symbol.targets import build_targets

ANCHORS, CLASSES, RATIO = 64, 3, 3


def boxes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    low = rng.uniform(0, 0.7, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(0.1, 0.3, (*shape, 2))], axis=-1)


def example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Anchors [1, N, 4], labels [B, M, 6], scores [B, C + 1, N]; the last image is empty."""
    rng = np.random.default_rng(0)
    anchors = boxes(rng, (1, ANCHORS))
    label = np.full((4, 3, 6), -1.0)
    for image, count in zip(label, (1, 3, 2, 0), strict=True):
        for row in image[:count]:
            row[:] = [rng.integers(CLASSES), *anchors[0, rng.integers(ANCHORS)] + rng.normal(0, 0.01, 4), 0]
    return anchors, label, rng.normal(0, 2, (4, CLASSES + 1, ANCHORS))


def example_heads() -> MultiBox:
    """Of an input `data`, as the number of anchors is asked for, that changes nothing."""
    nothing = mx.sym.sum(mx.sym.Variable("data"), axis=(1, 2, 3)).reshape((-1, 1, 1))
    anchors = mx.sym.broadcast_add(nothing, mx.sym.Variable("anchors", shape=(1, ANCHORS, 4)))
    return MultiBox(mx.sym.Variable("scores"), mx.sym.Variable("loc"), anchors)


def targets(cfg: DictConfig, label: np.ndarray | None = None) -> np.ndarray:
    anchors, own, scores = example()
    label = own if label is None else label
    values = {"scores": scores, "anchors": anchors, "label": label, "data": np.zeros((1, 3, 128, 128))}
    executor = build_targets(example_heads(), network_config(cfg)).cls.simple_bind(
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


def test_focal_loss_learns_from_all_anchors_of_all_images(cfg: DictConfig) -> None:
    found = every(cfg)
    assert found.min() == 0
    assert (found[:3] > 0).any(axis=1).all()
    assert not found[3].any()


def test_mining_in_a_image_is_mining_by_the_loss(cfg: DictConfig) -> None:
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


def test_the_hardest_of_the_batch_may_lie_in_a_image_without_objects(cfg: DictConfig) -> None:
    cfg.matching.mining = "batch"
    assert (targets(cfg)[3] == 0).any()


def best_overlaps() -> np.ndarray:
    """Highest IoU of each anchor with an object [B, N], in float64."""
    anchors, label, _ = example()
    best = np.zeros((len(label), ANCHORS))
    for image, rows in enumerate(label):
        for row in rows[rows[:, 0] >= 0]:
            low, high = np.maximum(anchors[0, :, :2], row[1:3]), np.minimum(anchors[0, :, 2:], row[3:5])
            shared = np.prod(np.maximum(high - low, 0), axis=1)
            areas = np.prod(anchors[0, :, 2:] - anchors[0, :, :2], axis=1) + np.prod(row[3:5] - row[1:3])
            best[image] = np.maximum(best[image], shared / (areas - shared))
    return best


MODES = {
    "image": {},
    "image_all": {"matching.negative_ratio": 0.0},
    "image_many": {"matching.negative_ratio": 1000.0},  # more than there are
    "batch": {"matching.mining": "batch"},
    "batch_all": {"matching.mining": "batch", "matching.negative_ratio": 1000.0},
    "focal": {"loss.classification": "focal"},
    "smoothed": {"matching.mining": "batch", "loss.label_smoothing": 0.1},
}


@pytest.mark.parametrize("compat", [None, "mxnet_ssd"])
@pytest.mark.parametrize("lowest", [0.5, 0.2, 0.05])
@pytest.mark.parametrize("mode", MODES)
def test_anchors_that_nearly_match_are_ignored(configure, mode: str, lowest: float, compat: str | None) -> None:
    """As MultiBoxTarget has it when it mines: no negative has an IoU of negative_overlap or more."""
    cfg = configure(compat=compat)
    cfg.matching.min_negatives = 0
    for key, value in MODES[mode].items():
        OmegaConf.update(cfg, key, value)
    positive = every(cfg) > 0  # bipartite matches of a lower IoU among them
    cfg.matching.negative_overlap = lowest
    found, near = targets(cfg), (best_overlaps() >= lowest) & ~positive
    assert near.any() or lowest == 0.5
    assert (found[positive] > 0).all()
    assert (found[near] == -1).all()
    rest = ~positive & ~near
    if mode.startswith("image") and lowest < 0.5:
        cfg.matching.min_negatives = 5
        assert (targets(cfg)[3] == 0).sum() == 5
        np.testing.assert_array_equal(targets(cfg)[:3], found[:3])
    if mode.endswith(("all", "many")):
        rest[3] &= mode == "batch_all"  # an image without objects
    if mode in ("focal", "batch_all", "image_all", "image_many"):
        assert (found[rest] == 0).all()
        return
    count, losses_ = RATIO * positive.sum(axis=1), np.where(rest, losses(), -1)
    if mode == "image":
        chosen = [set(np.argsort(-row)[:n]) for row, n in zip(losses_, count, strict=True)]
    else:
        flat = np.argsort(-losses_.ravel())[: count.sum()]
        chosen = [set(flat[flat // ANCHORS == image] % ANCHORS) for image in range(len(losses_))]
    assert [set(np.flatnonzero(row == 0)) for row in found] == chosen


def test_an_object_that_nothing_matches_well_ignores_its_neighbors_only_in_its_image(cfg: DictConfig) -> None:
    cfg.loss.classification, cfg.matching.negative_overlap = "focal", 0.3
    anchors, label, _ = example()
    alone = np.full_like(label, -1.0)
    alone[1, 0] = [0, *anchors[0, 5], 0]
    found = targets(cfg, alone)
    assert found[1, 5] == 1
    assert (found[1] == -1).any()
    assert not found[[0, 2, 3]].any()


@pytest.mark.parametrize("mode", ["batch", "focal"])
def test_nothing_flows_back_through_what_is_ignored(configure, mode: str) -> None:
    """Class gradients are zero exactly where the target says so."""
    cfg = configure("small", 128)
    for key, value in MODES[mode].items():
        OmegaConf.update(cfg, key, value)
    cfg.matching.negative_overlap = 0.2
    heads = example_heads()
    target = build_targets(heads, network_config(cfg)).cls
    graph = mx.sym.Group([*class_losses(heads, target, network_config(cfg)), mx.sym.BlockGrad(target)])
    anchors, label, scores = example()
    values = {"scores": scores, "anchors": anchors, "label": label, "data": np.zeros((1, 3, 128, 128))}
    grads = {name: "write" if name == "scores" else "null" for name in values}
    shapes = {name: array.shape for name, array in values.items()}
    executor = graph.simple_bind(mx.cpu(), grad_req=grads, **shapes)
    outputs = executor.forward(is_train=True, **{name: mx.nd.array(array) for name, array in values.items()})
    executor.backward()
    gradient, found = executor.grad_dict["scores"].asnumpy(), outputs[-1].asnumpy()
    np.testing.assert_array_equal(np.abs(gradient).sum(axis=1) > 0, found >= 0)
    assert ((best_overlaps() >= 0.2) & (found == -1)).any()
