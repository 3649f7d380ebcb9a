"""TensorBoard events of a run, in one folder: `tensorboard --logdir outputs` compares all runs.

The original wrote other names; they map to these (left: its tags, in its folders under logs/):

    train/scalar  ssd-CrossEntropy     train/cross_entropy
    train/scalar  ssd-SmoothL1         train/smooth_l1
    train/scalar  <layer> (--monitor)  rms/<kind>/<name>     its norm(x) / sqrt(size), and
                                       <kind>/<name>         the histogram of the array itself; see Monitoring
    train/dist    (disabled there)     weights/<parameter>, gradients/<parameter>
    val/scalar    ssd-<class>          val/ap_11pt/<class>   (and val/ap_area/<class>)
    val/scalar    ssd-mAP              val/map_11pt          (and val/map_area)
    val/roc       val_<class> (image)  val/pr/<class>        a PR curve of TensorBoard's own, with counts per threshold
    val/images    image<i>.png         val/sample_<i>        the same images every time, ground truth at the left

Every tag has the global step as its step, so training and validation share one axis; "train/epoch" gives the epoch at
a step. Means over an epoch are under train_epoch/; under final/ are the numbers that the run is known by, at the step
of the checkpoint they are of (final/epoch, final/step), those of the test split under final/test/.
"""

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from tensorboardX import summary as summaries
from tensorboardX.proto.attr_value_pb2 import AttrValue
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.node_def_pb2 import NodeDef
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboardX.proto.versions_pb2 import VersionDef

from ssd.config.commands import shell_command
from ssd.config.targets import literal
from ssd.data.images import encode
from ssd.runs.results import FINISHED, Results
from ssd.tracking.console import HEADLINE
from ssd.tracking.event_file import EventFile
from ssd.tracking.events import RunInfo, Values, Writer, epoch_namespace, finite
from ssd.tracking.graph_nodes import GraphNode
from ssd.tracking.summaries import clean, counts_at_thresholds, histogram, session_end, session_start
from ssd.utils.errors import UserError
from ssd.utils.names import Tags
from ssd.utils.patterns import compiled

FINAL = (*HEADLINE, "f1", "mean_iou", "precision", "recall")  # what runs are compared by in HPARAMS


@dataclass(frozen=True)
class Monitoring:
    """Which arrays are written as histograms, and how often.

    interval: steps between two; 0 for never. pattern: regex to be found in the tag, "weights/…", "gradients/…" or
    "activations/…".
    """

    interval: int
    pattern: str

    def __post_init__(self) -> None:
        if self.interval < 0:
            raise UserError(f"logger.tensorboard.monitor.interval={self.interval}: expected steps, 0 for never")
        compiled(self.pattern, "logger.tensorboard.monitor.pattern")

    def at(self, step: int) -> re.Pattern[str] | None:
        return re.compile(self.pattern) if self.interval and step % self.interval == 0 else None


class TensorBoard(Writer):
    """Scalars, PR curves, images, histograms, the network, hyper-parameters, and the configuration as text."""

    def __init__(self, folder: str, curve_points: int, monitor: Monitoring) -> None:
        self.folder = Path(folder)
        self.curve_points = curve_points
        self.monitor = monitor
        self.reached = 0  # the latest step
        self.shown: set[tuple[str, int]] = set()  # curves and images, by tag and step

    def start(self, run: RunInfo) -> None:
        self.folder = run.folder / self.folder
        self.tags = Tags(run.classes, clean)
        self.reached = run.resumed_at or 0
        self.file = EventFile(self.folder, self.reached + 1, "final/")
        config = f"```yaml\n{OmegaConf.to_yaml(OmegaConf.create(literal(run.config)), resolve=True)}```"
        for tag, text in (("config", config), ("classes", ", ".join(run.classes))):
            self._add(summaries.text(tag, text), self.reached)
        self._add(session_start({name: part for name, part in run.config.items() if name != "logger"}), self.reached)

    def step(self, epoch: int, step: int, values: Values) -> None:
        self._scalars({"train/epoch": epoch, **values}, step)

    def epoch(self, epoch: int, step: int, values: Values) -> None:
        self._scalars({"train/epoch": epoch, **epoch_namespace(values)}, step)

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        if self._is_new(tag, step):
            height, width = image.shape[:2]
            # JPEG: as PNG, images of every epoch would fill gigabytes.
            data = encode(image, ".jpg")
            summary = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
            self._add(Summary(value=[Summary.Value(tag=self.tags(tag), image=summary)]), step)

    def curve(
        self, tag: str, precision: np.ndarray, recall: np.ndarray, scores: np.ndarray, positives: int, step: int
    ) -> None:
        if self._is_new(tag, step):
            counts = counts_at_thresholds(recall, scores, positives, self.curve_points)
            self._add(summaries.pr_curve_raw(self.tags(tag), *counts, num_thresholds=self.curve_points), step)

    def wants_histograms(self, step: int) -> re.Pattern[str] | None:
        return self.monitor.at(step)

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        good = values[np.isfinite(values)]
        if len(good) < len(values):
            self._scalars({f"not_finite/{tag}": 1 - len(good) / len(values)}, step)
        if len(good):
            self._scalars({f"rms/{tag}": float(np.sqrt(np.mean(np.square(good, dtype=np.float64))))}, step)
            self._add(Summary(value=[Summary.Value(tag=self.tags(tag), histo=histogram(good))]), step)

    def graph(self, nodes: Sequence[GraphNode]) -> None:
        self.file.write(Event(graph_def=graph_def(nodes)), self.reached)

    def close(self, results: Results) -> None:
        step = self.reached if results.step is None else results.step
        final = {f"final/{name}": value for name, value in results.flat().items()
                 if name.removeprefix("test/") in FINAL}  # fmt: skip
        if final:
            known = {"epoch": results.epoch, "step": results.step}
            final |= {f"final/{name}": value for name, value in known.items() if value is not None}
        self._scalars(final, step)
        end = max(self.reached, step) + 1  # void if the run is resumed
        self._add(session_end(results.status == FINISHED), end)
        self.file.close()

    def where(self) -> str | None:
        command = shell_command("tensorboard", "--logdir", self.folder.absolute())
        missing = importlib.util.find_spec("tensorboard") is None
        return f"{command}  # needs pip install 'ssd[dashboard]'" if missing else command

    def _is_new(self, tag: str, step: int) -> bool:
        """Not if the tag was shown at this step: a training ends with showing its best epoch once more."""
        known = (tag, step) in self.shown
        self.shown.add((tag, step))
        return not known

    def _scalars(self, values: Values, step: int) -> None:
        found = [Summary.Value(tag=self.tags(name), simple_value=value) for name, value in finite(values).items()]
        self._add(Summary(value=found), step)

    def _add(self, summary: Any, step: int) -> None:
        self.reached = max(self.reached, step)
        self.file.write(Event(summary=summary), step)


SHAPES = "_output_shapes"  # where TensorBoard looks for what it writes beside the edges


def graph_def(nodes: Sequence[GraphNode]) -> bytes:
    """Serialized GraphDef: names, operators, edges, attributes, and the shape of every output."""
    return GraphDef(node=[_node(node) for node in nodes], versions=VersionDef(producer=22)).SerializeToString()


def _node(node: GraphNode) -> NodeDef:
    attributes = {name: AttrValue(s=value.encode()) for name, value in node.attributes.items()}
    shapes = [TensorShapeProto(dim=[TensorShapeProto.Dim(size=side) for side in shape]) for shape in node.shapes]
    attributes[SHAPES] = AttrValue(list=AttrValue.ListValue(shape=shapes))
    return NodeDef(name=node.name, op=node.operator, input=node.inputs, attr=attributes)
