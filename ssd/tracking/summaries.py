"""What TensorBoard stores, from plain values: pure functions."""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboardX.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata

from ssd.utils.flatten import leaves

EVEN, QUANTILES = 64, 64  # bins of a histogram
BROUGHT = re.compile(r"(backbone\.heads|head|data_shape)\.(?!name$)")

# Of api.proto in tensorboardX, for SessionEndInfo.
SUCCESS, FAILURE = 1, 2


def clean(tag: str) -> str:
    """A tag in the characters TensorBoard accepts ("traffic light" -> "traffic_light")."""
    return re.sub(r"[^-/\w.]", "_", tag)


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


def histogram(values: np.ndarray) -> HistogramProto:
    """Of finite values [N], N > 0.

    Half of the bin edges are evenly spaced, for the histogram that is drawn; the others follow the quantiles, for the
    percentiles that TensorBoard reads off it, which of a narrow peak with long tails would else all be the same bin's.
    """
    ordered = np.sort(values.astype(np.float64))
    quantiles = ordered[np.linspace(0, len(ordered) - 1, QUANTILES).astype(int)]
    limits = np.unique(np.concatenate([np.linspace(ordered[0], ordered[-1], EVEN), quantiles]))
    counts = np.diff(np.searchsorted(ordered, limits, side="right"), prepend=0)
    return HistogramProto(
        min=ordered[0], max=ordered[-1], num=len(ordered), sum=ordered.sum(), sum_squares=ordered @ ordered,
        bucket_limit=limits.tolist(), bucket=counts.tolist(),
    )  # fmt: skip


def session_start(config: Mapping[str, Any]) -> Summary:
    """The hyper-parameters of a run.

    Without the list of parameters and metrics that may go with it: TensorBoard takes the list of the first run for all
    runs. Of none it makes its own from all runs, and shows first what differs between them.
    """
    session = SessionStartInfo(start_time_secs=time.time())
    for name, value in hyper_parameters(config):
        if isinstance(value, bool):
            session.hparams[name].bool_value = value
        elif isinstance(value, (int, float)):
            session.hparams[name].number_value = value
        else:
            session.hparams[name].string_value = value
    return _hparams("session_start_info", HParamsPluginData(session_start_info=session))


def session_end(finished: bool) -> Summary:
    end = SessionEndInfo(status=SUCCESS if finished else FAILURE, end_time_secs=time.time())
    return _hparams("session_end_info", HParamsPluginData(session_end_info=end))


def hyper_parameters(config: Mapping[str, Any]) -> Iterator[tuple[str, bool | int | float | str]]:
    """{"a": {"name": "x", "b": 1}, "c": 2} -> ("a", "x"), ("a.b", 1), ("c", 2).

    Without lists, which no table has room for, and without what the choice of a backbone or data shape brings along.
    """
    for key, value in leaves(config).items():
        group, _, name = key.rpartition(".")
        if isinstance(value, (bool, int, float, str)) and name != "_target_" and not BROUGHT.match(key):
            yield (group if name == "name" and group else key), value


def _hparams(name: str, content: HParamsPluginData) -> Summary:
    data = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
    return Summary(value=[Summary.Value(tag=f"_hparams_/{name}", metadata=SummaryMetadata(plugin_data=data))])
