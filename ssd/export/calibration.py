"""Ranges of activations, from which 8-bit networks get their scales."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ssd.checkpoint.model import Params
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

METHODS = ("minmax", "entropy", "percentile")
BINS = 3**8  # odd, so that one is around 0, and three make one when the range grows
LEVELS = 255  # of 8 bits, around 0
CUT = 0.0001  # share of the values that percentile leaves out

Range = tuple[float, float]


def check_method(method: str) -> None:
    """Errors: UserError for an unknown one."""
    if method not in METHODS:
        raise UserError(f"deploy.calibration.method={method}: expected {', '.join(METHODS)}")


class Histogram:
    """Counts of a tensor's values over many batches; the range grows with them and nothing is lost."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0  # 0 belongs to every range: padding is exact
        self._limit = 0.0
        self._counts = np.zeros(BINS, np.int64)

    def add(self, values: np.ndarray) -> None:
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise UserError("calibration: the network answers what is not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        largest = max(self.high, -self.low)
        if self._limit == 0:
            if largest == 0:
                return
            self._limit = largest
        while self._limit < largest:
            merged = self._counts.reshape(-1, 3).sum(axis=1)
            self._counts[:] = 0
            start = (BINS - len(merged)) // 2
            self._counts[start : start + len(merged)] = merged
            self._limit *= 3
        self._counts += np.histogram(values, bins=BINS, range=(-self._limit, self._limit))[0]

    def range(self, method: str) -> Range:
        """(low, high) with low <= 0 <= high. minmax: of all values; percentile: of all but CUT of them; entropy: where
        cutting off and rounding together lose least information (Migacz, "8-bit inference with TensorRT", 2017)."""
        if method == "minmax" or self._limit == 0:
            return self.low, self.high
        edges = np.linspace(-self._limit, self._limit, BINS + 1)
        if method == "percentile":
            share = np.cumsum(self._counts) / self._counts.sum()
            cut = CUT / 2 if self.low < 0 else CUT
            low, high = np.searchsorted(share, [CUT / 2, 1 - cut])
            return max(self.low, min(0.0, float(edges[low]))), min(self.high, max(0.0, float(edges[high + 1])))
        levels = LEVELS if self.low < 0 else 2 * LEVELS + 1  # the negative half of them is not used then
        limit, _ = mx.nd.contrib.calibrate_entropy(
            hist=mx.nd.array(self._counts, dtype=np.float32), hist_edges=mx.nd.array(edges, dtype=np.float32),
            num_quantized_bins=levels,
        )  # fmt: skip
        limit = float(limit.asscalar())
        return max(self.low, -limit), min(self.high, limit)


def ranges(histograms: dict[str, Histogram], method: str) -> dict[str, Range]:
    if not histograms:
        raise UserError("deploy.calibration: there are no images to calibrate on")
    return {name: histogram.range(method) for name, histogram in histograms.items()}


def one_by_one(batches: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """Batches of one: activations of large networks are large."""
    for batch in batches:
        for index in range(len(batch)):
            yield batch[index : index + 1]


def activations(
    graph: Any,
    params: tuple[Params, Params],
    images: Iterable[np.ndarray],
    watch: Callable[[Any, Any], None] | None = None,
) -> Iterator[list[Any]]:
    """The outputs of a graph, image by image. params: arguments and auxiliary states, maybe more than it has.
    watch: called with name and handle of every array inside."""
    names = (graph.list_arguments(), graph.list_auxiliary_states())
    args, aux = (
        {name: part[name] for name in known if name in part} for known, part in zip(names, params, strict=True)
    )
    executor = None
    for image in one_by_one(images):
        if executor is None:
            args["data"] = mx.nd.zeros(image.shape)
            executor = graph.bind(mx.cpu(), args=args, aux_states=aux, grad_req="null")
            if watch:
                executor.set_monitor_callback(watch, monitor_all=True)
        executor.arg_dict["data"][:] = image
        yield executor.forward(is_train=False)
