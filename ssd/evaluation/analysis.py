"""What average precision does not say: thresholds, confusions, the cost of each kind of mistake, the worst images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ssd.evaluation.breakdown import Mistakes, error_breakdown
from ssd.evaluation.coco import Numbering, measure_coco
from ssd.evaluation.confusion import Confusion, confusion
from ssd.evaluation.matching import Joined
from ssd.evaluation.thresholds import Thresholds


class Depth(Protocol):
    """What the analysis must know of cfg.metric."""

    @property
    def iou(self) -> float: ...
    @property
    def coco(self) -> bool: ...


@dataclass(frozen=True)
class Analysis:
    """thresholds: the scores from which detections count here.
    true, false: int64 [C], right and wrong detections of that score; positives: int64 [C], objects to find.
    coco: `evaluate_coco`'s numbers, empty unless asked for. mean_iou: of the true positives at any score.
    """

    thresholds: Thresholds
    true: np.ndarray
    false: np.ndarray
    positives: np.ndarray
    mean_iou: float
    confusion: Confusion
    mistakes: dict[str, Mistakes]
    coco: dict[str, float]

    def rates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Precision, recall and F1 per class at the thresholds, float64 [C]; nan where undefined."""
        return _rates(self.true, self.false, self.positives)

    def overall(self) -> tuple[float, float, float]:
        """Precision, recall and F1 of all classes together."""
        sums = (np.array([part.sum()]) for part in (self.true, self.false, self.positives))
        precision, recall, f1 = (float(rate[0]) for rate in _rates(*sums))
        return precision, recall, f1

    def values(self) -> dict[str, float]:
        """Flat numbers: precision, recall, f1, mean_iou, cost/<kind of mistake>, and COCO's."""
        numbers = dict(zip(("precision", "recall", "f1"), self.overall(), strict=True))
        numbers["mean_iou"] = self.mean_iou
        return numbers | {f"cost/{kind}": mistakes.cost for kind, mistakes in self.mistakes.items()} | self.coco

    def image_scores(self) -> np.ndarray:
        """F1 of each image at the thresholds, float64 [images]: 2 right / (2 right + wrong + missed); 1 where there is
        nothing and nothing was found."""
        right, wrong, missed = self.image_counts().T
        whole = 2 * right + wrong + missed
        return np.divide(2 * right, whole, out=np.ones(len(right)), where=whole > 0)

    def image_counts(self) -> np.ndarray:
        """Right detections, wrong detections and missed objects of each image: int64 [images, 3]."""
        pairs = self.confusion
        rows = [
            (right.sum(), (~right & ~ignored).sum(), (~found & ~difficult).sum())
            for right, ignored, found, difficult in zip(
                pairs.right, pairs.ignored, pairs.found, pairs.difficult, strict=True
            )
        ]
        return np.array(rows, np.int64).reshape(-1, 3)

    def worst_first(self) -> np.ndarray:
        """Indices of the images by F1, lowest first; of equal ones the one with more mistakes."""
        counts = self.image_counts()
        return np.lexsort((-counts[:, 1:].sum(axis=1), self.image_scores()))


def analyze(
    joined: Joined,
    voc: dict[str, Any],
    depth: Depth,
    thresholds: Thresholds,
    numbering: Numbering | None = None,
    annotated: Sequence[np.ndarray] | None = None,
) -> Analysis:
    """Of joined ground truth and detections, and the metric's numbers `voc` (see `evaluate_voc`) on them; numbering and
    annotated as `evaluate_coco` takes them."""
    limits = thresholds.scores
    counts = [int((scores >= limit).sum()) for scores, limit in zip(voc["scores"], limits, strict=True)]
    true = np.array(
        [round(float(curve[n - 1]) * n) if n else 0 for curve, n in zip(voc["precision"], counts, strict=True)],
        np.int64,
    )
    return Analysis(
        thresholds=thresholds,
        true=true,
        false=np.array(counts, np.int64) - true,
        positives=voc["positives"],
        mean_iou=voc["mean_iou"],
        confusion=confusion(joined, limits, depth.iou),
        mistakes=error_breakdown(joined, depth.iou),
        coco=measure_coco(joined, numbering, annotated) if depth.coco else {},
    )


def _rates(true: np.ndarray, false: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)

    return share(true, true + false), share(true, positives), share(2 * true, true + false + positives)
