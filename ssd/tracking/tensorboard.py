"""TensorBoard events of a run, in one folder: `tensorboard --logdir outputs` compares all runs.

The original wrote other names; they map to these (left: its tags, in its folders under logs/):

    train/scalar  ssd-CrossEntropy     train/cross_entropy
    train/scalar  ssd-SmoothL1         train/smooth_l1
    train/scalar  <layer> (--monitor)  none                  a log line was parsed for it
    train/dist    (disabled there)     none
    val/scalar    ssd-<class>          val/ap_11pt/<class>   (and val/ap_area/<class>)
    val/scalar    ssd-mAP              val/map_11pt          (and val/map_area)
    val/roc       val_<class> (image)  val/pr/<class>        a PR curve of TensorBoard's own, with counts per threshold
    val/images    image<i>.png         images, tag of the job

Every tag has the global step as its step, so training and validation share one axis; "epoch" gives the epoch at a
step. Means over an epoch are under train_epoch/.
"""

import re
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from tensorboardX import SummaryWriter
from tensorboardX.proto.summary_pb2 import Summary

from ssd.tracking.events import RunInfo, Values, Writer, apart, finite
from ssd.tracking.files import encode


class TensorBoard(Writer):
    """Scalars, PR curves, images, and the configuration as text."""

    def __init__(self, folder: str, flush_seconds: int, curve_points: int) -> None:
        self.folder = Path(folder)
        self.flush_seconds = flush_seconds
        self.curve_points = curve_points

    def start(self, run: RunInfo) -> None:
        self.folder = run.folder / self.folder
        self.board = SummaryWriter(str(self.folder), flush_secs=self.flush_seconds)
        self.board.add_text("config", f"```yaml\n{OmegaConf.to_yaml(OmegaConf.create(run.config))}```", 0)
        self.board.add_text("classes", ", ".join(run.classes), 0)

    def step(self, epoch: int, step: int, values: Values) -> None:
        self._scalars({"epoch": epoch, **values}, step)

    def epoch(self, epoch: int, step: int, values: Values) -> None:
        self._scalars({"epoch": epoch, **apart(values)}, step)

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        height, width = image.shape[:2]
        # Not add_image, which makes PNG files: pictures of every epoch would fill gigabytes.
        picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encode(image, ".jpg"))
        self.board.file_writer.add_summary(Summary(value=[Summary.Value(tag=clean(tag), image=picture)]), step)

    def curve(
        self, tag: str, precision: np.ndarray, recall: np.ndarray, scores: np.ndarray, positives: int, step: int
    ) -> None:
        counts = counts_at_thresholds(recall, scores, positives, self.curve_points)
        self.board.add_pr_curve_raw(clean(tag), *counts, global_step=step, num_thresholds=self.curve_points)

    def close(self, status: str, metrics: Values) -> None:
        self.board.close()

    def where(self) -> str | None:
        return f"tensorboard --logdir {self.folder}"

    def _scalars(self, values: Values, step: int) -> None:
        for name, value in finite(values).items():
            self.board.add_scalar(clean(name), value, step)


def counts_at_thresholds(recall: np.ndarray, scores: np.ndarray, positives: int, points: int) -> np.ndarray:
    """A curve as TensorBoard stores it, from one point per detection, best score first (see `Writer.curve`).

    Returns float64 [6, points]: true positives, false positives, true negatives, false negatives, precision, recall of
    the detections that score at least t, for t evenly from 0 to 1. Detection knows no true negatives: zeros.
    """
    detections = np.searchsorted(-scores, -np.linspace(0, 1, points), side="right")
    found = np.concatenate([[0.0], np.rint(np.nan_to_num(recall) * positives)])[detections]
    precision = found / np.maximum(detections, 1)
    share = found / max(positives, 1)
    return np.stack([found, detections - found, np.zeros(points), positives - found, precision, share])


def clean(tag: str) -> str:
    """A tag in the characters TensorBoard accepts ("traffic light" -> "traffic_light")."""
    return re.sub(r"[^-/\w.]", "_", tag)
