"""Precision-recall curves of an `evaluate_voc` result: as images, as data, and the threshold they recommend."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST_NAMED = 20  # classes with their own color and legend entry in one image


def best_f1(result: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Score threshold per class that gives the highest F1 = 2PR / (P + R), and that F1: float64 [C] and [C].

    Keep detections with score >= threshold. A threshold must take all detections of one score or none, so only the
    last of equal scores is a candidate; of equal F1 the highest threshold wins. Both are nan for a class without ground
    truth, without detections, or whose detections find nothing.
    """
    count = len(result["scores"])
    thresholds, best = np.full(count, np.nan), np.full(count, np.nan)
    curves = zip(result["precision"], result["recall"], result["scores"], strict=True)
    for label, (precision, recall, scores) in enumerate(curves):
        last_of_equal = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
        useful = np.flatnonzero(last_of_equal & (recall > 0))
        if len(useful):
            p, r = precision[useful], recall[useful]
            f1 = 2 * p * r / (p + r)
            thresholds[label], best[label] = scores[useful][f1.argmax()], f1.max()
    return thresholds, best


def curve_data(result: Mapping[str, Any], class_names: Sequence[str], points: int) -> dict[str, dict[str, Any]]:
    """Curves ready for JSON: {class name: {"ap_11pt", "ap_area", "positives", "precision", "recall", "scores"}}.

    Each curve is thinned to at most `points` points, evenly along its length, first and last kept. Classes without
    ground truth are left out, as their curve does not exist.
    """
    data = {}
    for label in np.flatnonzero(result["positives"]):
        scores = result["scores"][label]
        chosen = _spread(result["recall"][label], result["precision"][label], points)
        data[class_names[label]] = {
            "ap_11pt": float(result["ap_11pt"][label]),
            "ap_area": float(result["ap_area"][label]),
            "positives": int(result["positives"][label]),
            "precision": result["precision"][label][chosen].tolist(),
            "recall": result["recall"][label][chosen].tolist(),
            "scores": scores[chosen].tolist(),
        }
    return data


def _spread(recall: np.ndarray, precision: np.ndarray, points: int) -> np.ndarray:
    """Indices of at most `points` points, evenly along the way from the first to the last."""
    if len(recall) <= points:
        return np.arange(len(recall))
    way = np.cumsum(np.hypot(np.diff(recall, prepend=recall[:1]), np.diff(precision, prepend=precision[:1])))
    return np.unique(np.searchsorted(way, np.linspace(0, way[-1], points)).clip(max=len(way) - 1))


def plot_curves(result: Mapping[str, Any], class_names: Sequence[str], classes: Sequence[int]) -> np.ndarray:
    """Image, uint8 RGB [H, W, 3], of the precision-recall curves of the given class indices, best AP first.

    Beyond MOST_NAMED classes the middle of the ranking is drawn gray and unnamed, so that the best and the worst stay
    readable. matplotlib is used without pyplot: no window, no global state.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="recall", ylabel="precision", xlim=(0, 1.005), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    ranking = sorted((label for label in classes if result["positives"][label]), key=lambda c: -result["ap_area"][c])
    named = ranking if len(ranking) <= MOST_NAMED else ranking[: MOST_NAMED // 2] + ranking[-(MOST_NAMED // 2) :]
    for label in ranking:
        # From recall 0 on, so that a curve of a single point is a line too; without detections there is none.
        precision = np.append(result["precision"][label][:1], result["precision"][label])
        recall = np.append(0.0, result["recall"][label])[: len(precision)]
        if label in named:
            text = f"{result['ap_area'][label]:.3f} {class_names[label]}"
            color = colormaps["tab20"](named.index(label))
            axes.plot(recall, precision, color=color, label=text, linewidth=1.5, zorder=3)
        else:
            axes.plot(recall, precision, color="0.8", linewidth=1, zorder=2)
    if ranking:
        unnamed = len(ranking) - len(named)
        title = "area AP" + (f" (+ {unnamed} between, gray)" if unnamed else "")
        figure.legend(loc="outside right center", fontsize=8, frameon=False, title=title)
        mean = np.mean([result["ap_area"][label] for label in ranking])
        axes.set_title(f"precision and recall, mean area AP {mean:.3f}")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
