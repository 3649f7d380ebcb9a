"""How long mAP takes: ours, the original's metric, and pycocotools, on the same detections.

    python tools/benchmarks/metrics.py                     # 4952 images, 20 classes, 100 detections each, 3 rounds
    python tools/benchmarks/metrics.py --images 500        # quicker

The data is made up but shaped like VOC2007 test: two or three objects an image, most detections around one of them
with falling scores, the rest anywhere. Rounds are interleaved, so that what else the machine does meets all alike.

Three things are timed, each from the arrays a detector gives to the numbers:
    ours         `evaluate_voc`: both APs of all classes, with curves
    original     the metric of mxnet-ssd, written here from its description: an image at a time it takes the network's
                 output of one row per anchor (8732, those without a detection hold -1), takes out class after class
                 with np.delete, loops over detections in Python, and stacks a class's records anew for every image.
                 The copy from the device is left out
    pycocotools  COCOeval at the one IoU .5, up to 100 detections, from indices that are built before and not timed
"""

import argparse
import contextlib
import io
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ssd.evaluation import evaluate_voc
from ssd.ops.boxes import area

Arrays = list[np.ndarray]

ANCHORS = 8732  # of VGG16 at 300 x 300
LABEL_ROWS = 58  # the original pads labels to 350 numbers


def made_up(images: int, classes: int, count: int, seed: int = 0) -> tuple[Arrays, Arrays]:
    """Ground truth [M, 6] and detections [count, 6], sorted by score, in pixels of 500 x 375 images."""
    rng = np.random.default_rng(seed)
    size = np.array([500.0, 375.0])
    truth, found = [], []
    for _ in range(images):
        objects = 1 + rng.poisson(1.5)
        center, side = rng.uniform(0.1, 0.9, (objects, 2)) * size, rng.uniform(0.08, 0.7, (objects, 2)) * size
        boxes = np.hstack([np.maximum(center - side / 2, 0), np.minimum(center + side / 2, size)])
        label = rng.integers(0, classes, objects)
        truth.append(np.column_stack([label, boxes, rng.random(objects) < 0.15]).astype(np.float32))
        source = rng.integers(0, objects, count)
        extent = np.tile(boxes[:, 2:] - boxes[:, :2], 2)[source]
        near = rng.random(count) < 0.6
        guess = boxes[source] + rng.normal(0, 0.12, (count, 4)) * extent
        corner = rng.uniform(0, 0.8, (count, 2)) * size
        guess[~near] = np.hstack([corner, corner + rng.uniform(0.05, 0.4, (count, 2)) * size])[~near]
        guessed = np.where(near & (rng.random(count) < 0.7), label[source], rng.integers(0, classes, count))
        score = np.sort(rng.beta(0.3, 2, count))[::-1]
        found.append(np.column_stack([guessed, score, guess]).astype(np.float32))
    return truth, found


class OriginalMetric:
    """The original's metric as its users describe it: greedy matching per image and class, in Python."""

    def __init__(self, classes: int, iou: float) -> None:
        self.classes = classes
        self.iou = iou
        self.records: dict[int, np.ndarray] = {}  # per class [K, 2]: score, 1 right or 2 wrong
        self.counts: dict[int, int] = {}

    def update(self, labels: np.ndarray, preds: np.ndarray) -> None:
        """One image: labels [M, 6] (class, corners, difficult), preds [N, 6] (class, score, corners), class -1: no."""
        while preds.shape[0] > 0:
            cid = int(preds[0, 0])
            chosen = np.where(preds[:, 0].astype(int) == cid)[0]
            dets = preds[chosen]
            preds = np.delete(preds, chosen, axis=0)
            if cid < 0:
                continue
            own = np.where(labels[:, 0].astype(int) == cid)[0]
            gts = labels[own]
            labels = np.delete(labels, own, axis=0)
            records = np.hstack([dets[:, 1:2], np.zeros((len(dets), 1))])
            taken = [False] * len(gts)
            for j in range(len(dets)):
                records[j, 1] = self._judge(dets[j], gts, taken)
            records = records[np.where(records[:, 1] > 0)[0]]
            if records.size:
                self._insert(cid, records, int(np.sum(gts[:, 5] < 1)))
        while labels.shape[0] > 0:
            cid = int(labels[0, 0])
            own = np.where(labels[:, 0].astype(int) == cid)[0]
            labels = np.delete(labels, own, axis=0)
            if cid >= 0:
                self._insert(cid, np.zeros((0, 2)), len(own))

    def _judge(self, det: np.ndarray, gts: np.ndarray, taken: list[bool]) -> int:
        """0 ignored, 1 right, 2 wrong."""
        if not len(gts):
            return 2
        width = np.maximum(0, np.minimum(gts[:, 3], det[4]) - np.maximum(gts[:, 1], det[2]))
        height = np.maximum(0, np.minimum(gts[:, 4], det[5]) - np.maximum(gts[:, 2], det[3]))
        overlap = width * height
        sizes = (gts[:, 3] - gts[:, 1]) * (gts[:, 4] - gts[:, 2])
        ious = overlap / ((det[4] - det[2]) * (det[5] - det[3]) + sizes - overlap)
        best = int(np.argmax(ious))
        if ious[best] <= self.iou:
            return 2
        if gts[best, 5] > 0:
            return 0
        if taken[best]:
            return 2
        taken[best] = True
        return 1

    def _insert(self, cid: int, records: np.ndarray, count: int) -> None:
        self.records[cid] = np.vstack([self.records[cid], records]) if cid in self.records else records
        self.counts[cid] = self.counts.get(cid, 0) + count

    def get(self) -> tuple[float, float]:
        """mAP 11-point and area."""
        eleven, areas = [], []
        for cid, records in self.records.items():
            ordered = records[np.argsort(-records[:, 0], kind="stable")]
            tp, fp = np.cumsum(ordered[:, 1] == 1), np.cumsum(ordered[:, 1] == 2)
            recall = tp / self.counts[cid] if self.counts[cid] else tp * 0.0
            precision = tp / np.maximum(tp + fp, 1)
            points = [precision[recall >= t].max() if (recall >= t).any() else 0.0 for t in np.arange(0, 1.1, 0.1)]
            eleven.append(float(np.mean(points)))
            envelope = np.maximum.accumulate(np.concatenate([[0], precision, [0]])[::-1])[::-1]
            steps = np.concatenate([[0], recall, [1]])
            moved = np.where(steps[1:] != steps[:-1])[0]
            areas.append(float(np.sum((steps[moved + 1] - steps[moved]) * envelope[moved + 1])))
        return float(np.mean(eleven)), float(np.mean(areas))


def original(truth: Arrays, found: Arrays, classes: int) -> tuple[float, float]:
    metric = OriginalMetric(classes, 0.5)
    for labels, preds in zip(truth, found, strict=True):
        metric.update(padded(labels, LABEL_ROWS), padded(preds, ANCHORS))
    return metric.get()


def padded(rows: np.ndarray, count: int) -> np.ndarray:
    """The rows as the network gives them, float32 [count, 6], -1 below them."""
    whole = np.full((count, 6), -1, np.float32)
    whole[: len(rows)] = rows
    return whole


def ours(truth: Arrays, found: Arrays, classes: int) -> tuple[float, float]:
    result = evaluate_voc(truth, found, classes)
    return result["map_11pt"], result["map_area"]


def coco_indices(truth: Arrays, found: Arrays, classes: int) -> list[Any]:
    """Ground truth and detections as pycocotools keeps them."""
    from pycocotools.coco import COCO

    indices = []
    for lists, first in ((truth, 1), (found, 2)):
        rows = []
        for image, array in enumerate(lists):
            boxes = array[:, first : first + 4].astype(float)
            sides = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
            for row, box, size in zip(array.tolist(), sides.tolist(), area(boxes).tolist(), strict=True):
                extra = {"score": row[1]} if first == 2 else {"iscrowd": int(row[5])}
                rows.append({"id": len(rows) + 1, "image_id": image, "category_id": int(row[0]), "bbox": box,
                             "area": size, "iscrowd": 0, **extra})  # fmt: skip
        index = COCO()
        index.dataset = {"images": [{"id": image} for image in range(len(lists))],
                         "categories": [{"id": label} for label in range(classes)], "annotations": rows}  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            index.createIndex()
        indices.append(index)
    return indices


def pycoco(indices: list[Any]) -> float:
    """AP at IoU .5, 101 recall points."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*indices, "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    return float(precision[precision > -1].mean())


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of processor time, which other work on the machine disturbs less than the clock; all use one thread."""
    started = time.process_time()
    result = function()
    return time.process_time() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, value in (("images", 4952), ("classes", 20), ("detections", 100), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    truth, found = made_up(options.images, options.classes, options.detections)
    indices = coco_indices(truth, found, options.classes)
    contenders: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(truth, found, options.classes),
        "original": lambda: original(truth, found, options.classes),
        "pycocotools": lambda: pycoco(indices),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    results: dict[str, Any] = {}
    for _ in range(options.rounds):
        for name, function in contenders.items():
            seconds, results[name] = timed(function)
            times[name].append(seconds)
    print(f"{options.images} images, {options.classes} classes, {options.detections} detections each; "
          f"median of {options.rounds} interleaved rounds; {platform.processor() or platform.machine()}, "
          f"Python {platform.python_version()}, numpy {np.__version__}")  # fmt: skip
    best = statistics.median(times["ours"])
    print(f"{'':12} {'CPU s':>8} {'spread':>15} {'x ours':>8}  result")
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        spread = f"{min(seconds):.2f}–{max(seconds):.2f}"
        values = results[name] if isinstance(results[name], tuple) else (results[name],)
        said = ", ".join(f"{value:.4f}" for value in values)
        print(f"{name:12} {middle:8.3f} {spread:>15} {middle / best:8.1f}  {said}")


if __name__ == "__main__":
    main()
