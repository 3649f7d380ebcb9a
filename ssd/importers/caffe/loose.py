"""Anchors for networks that end with their predictions and leave the rest to a program of their own.

Ultra-Light-Fast-Generic-Face-Detector is one: its outputs are scores [1, N, C] after the softmax and offsets [1, N, 4].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssd.importers.caffe.detection import HeadInputs, HeadOptions, make_heads
from ssd.importers.caffe.graph import Graph, Heads, UnsupportedError, Value, format_shape
from ssd.importers.caffe.priors import PriorShape, four_variances
from ssd.utils.errors import UserError

MAX_ANCHORS = 1 << 20


def lack_anchors(outputs: dict[str, Value]) -> bool:
    """Whether a network's outputs are boxes [1, N, 4] and scores [1, N, C], as of a detector that knows no anchors."""
    shapes = [value.shape for value in outputs.values()]
    return (
        len(shapes) == 2
        and all(len(shape) == 3 for shape in shapes)
        and shapes[0][:2] == shapes[1][:2]
        and 4 in (shapes[0][2], shapes[1][2])
    )


@dataclass(frozen=True)
class LooseHeads:
    """min_sizes: of each feature map, in pixels. steps: of each, pixels between two cells; a map has as many cells as
    steps begin in the input. clip: None, "corners" or "centers", see PriorShape."""

    min_sizes: Sequence[Sequence[float]]
    steps: Sequence[float]
    variances: Sequence[float]
    clip: str | None

    def __post_init__(self) -> None:
        sizes = [size for level in self.min_sizes for size in level]
        if not sizes or len(self.min_sizes) != len(self.steps) or min(*sizes, *self.steps) <= 0:
            raise UserError(
                "job.priors: expected min_sizes (a list per feature map) and as many steps, all positive, in pixels"
            )
        if self.clip not in (None, "corners", "centers"):
            raise UserError(f"job.priors.clip={self.clip}: choose null, corners or centers")

    def priors(self, image: tuple[int, int]) -> np.ndarray:
        """Constant [1, 2, N * 4] as a PriorBox layer writes it."""
        maps = [[int(np.ceil(side / step)) for side in image] for step in self.steps]
        count = sum(rows * columns * len(sizes) for (rows, columns), sizes in zip(maps, self.min_sizes, strict=True))
        if count > MAX_ANCHORS:
            raise UserError(f"job.priors: {count:,} anchors are too many")
        corners = np.concatenate([
            PriorShape(tuple(sizes), (), (), (step, step), 0.5, image, self.clip).boxes(rows, columns)
            for (rows, columns), sizes, step in zip(maps, self.min_sizes, self.steps, strict=True)
        ])  # fmt: skip
        variances = np.tile(np.array(four_variances(self.variances), np.float32), len(corners))
        return np.stack([corners.reshape(-1), variances])[None]

    def heads(self, graph: Graph, outputs: dict[str, Value]) -> Heads:
        """Finds the two outputs by their sizes. Errors: UserError when they do not fit the anchors."""
        height, width = graph.input_shape[2:]
        try:
            priors = self.priors((height, width))
            count = priors.shape[2] // 4
            if len(outputs) != 2 or any(len(v.shape) != 3 or v.shape[1] != count for v in outputs.values()):
                shapes = " and ".join(format_shape(value.shape) for value in outputs.values()) or "none"
                raise UnsupportedError(
                    f"expected outputs 1x{count}x4 and 1x{count}x(classes + 1), the network has {shapes}"
                )
            loc, conf = sorted(outputs, key=lambda name: outputs[name].shape[2] != 4)
            if outputs[loc].shape[2] != 4:
                raise UnsupportedError("none of the outputs holds boxes")
            options = HeadOptions(outputs[conf].shape[2], 0, True, "CENTER_SIZE", False, False)
            inputs = HeadInputs(outputs[loc], outputs[conf], priors, (conf, loc))
            return make_heads(graph, inputs, options, {})
        except UnsupportedError as problem:
            raise UserError(f"job.priors: {problem}") from problem
