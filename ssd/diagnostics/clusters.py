"""Clusters of box shapes by IoU: k-means where the distance of two shapes is 1 - IoU (Redmon and Farhadi 2017, 2)."""

import numpy as np

RESTARTS = 4
ROUNDS = 50


def shape_iou(shapes: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """[N, K]: IoU of boxes [N, 2] and [K, 2] (width, height) that share their center."""
    overlap = np.minimum(shapes[:, None], centers[None]).prod(axis=2)
    union = shapes.prod(axis=1)[:, None] + centers.prod(axis=1)[None] - overlap
    return overlap / union


def kmeans(shapes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """float64 [count, 2]: centers of `count` clusters, smallest area first.

    shapes: [N, 2] positive widths and heights, N >= 1; their order does not matter. The best of some restarts by mean
    IoU; each begins with centers far apart (Arthur and Vassilvitskii 2007, "k-means++").
    """
    shapes = np.asarray(shapes, np.float64)
    shapes = shapes[np.lexsort(shapes.T)]
    random = np.random.default_rng(seed)
    best, best_value = shapes[:1], -1.0
    for _ in range(RESTARTS):
        centers = _lloyd(shapes, _spread(shapes, count, random))
        value = shape_iou(shapes, centers).max(axis=1).mean()
        if value > best_value:
            best, best_value = centers, value
    return best[np.argsort(best.prod(axis=1), kind="stable")]


def _spread(shapes: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    centers = shapes[random.integers(len(shapes))][None]
    while len(centers) < count:
        distance = 1 - shape_iou(shapes, centers).max(axis=1)
        distance = np.maximum(distance, 0) + 1e-12  # fewer different shapes than clusters: some centers coincide
        chosen = random.choice(len(shapes), p=distance / distance.sum())
        centers = np.concatenate([centers, shapes[chosen][None]])
    return centers


def _lloyd(shapes: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Medians of the members instead of means: closer to what IoU rewards. The best round is kept, as medians do not
    improve in every one."""
    best, best_value = centers, -1.0
    for _ in range(ROUNDS):
        iou = shape_iou(shapes, centers)
        value = iou.max(axis=1).mean()
        if value <= best_value + 1e-9:
            break
        best, best_value = centers, value
        owner = iou.argmax(axis=1)
        centers = np.array(
            [np.median(shapes[owner == k], axis=0) if (owner == k).any() else centers[k] for k in range(len(centers))]
        )
    return best
