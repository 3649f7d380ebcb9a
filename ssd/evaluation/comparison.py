"""Several runs side by side: what they were told differently, and what came of it."""

import csv
import glob
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssd.errors import UserError

METRICS = ("map_11pt", "map_area", "AP", "AP50", "AP75", "precision", "recall", "f1", "mean_iou", "epoch")
RECALL = np.linspace(0, 1, 101)
SILENT = ("logger.",)  # keys that change no result
# Where the name of one of these differs, the keys that follow from it are not listed.
FOLLOWS = {
    "backbone.name": ("backbone.", "head."),
    "data_shape.name": ("data_shape.", "head."),
    "dataset.name": ("dataset.",),
}


@dataclass(frozen=True)
class Run:
    """A run directory, read. config: dotted key -> value; metrics: metrics.json; epochs: columns of metrics.csv,
    float64 [rows], nan where empty; precision: float64 [101], mean over the classes at recall 0, .01, … 1, or None."""

    name: str
    folder: Path
    config: dict[str, Any]
    metrics: dict[str, float]
    epochs: dict[str, np.ndarray]
    precision: np.ndarray | None

    def metric(self, name: str) -> float:
        value = self.metrics.get(name)
        return float("nan") if value is None else float(value)


def find_runs(wanted: str | Sequence[str] | None) -> list[Run]:
    """The runs of a list of run directories or of a glob, e.g. "outputs/train/*/*"; best mAP first.

    A directory that a glob finds and that holds no results yet is passed over.
    Errors: UserError for none, for fewer than two, and for a named directory that is no run.
    """
    if not wanted:
        raise UserError("job=compare needs job.runs=: a glob such as outputs/train/*/*, or a list [first,second]")
    if isinstance(wanted, str):
        folders = [Path(found) for found in sorted(glob.glob(wanted, recursive=True)) if is_run(Path(found))]
    else:
        folders = [Path(folder) for folder in wanted]
        if stray := [folder for folder in folders if not is_run(folder)]:
            raise UserError(f"job.runs: {stray[0]} is no run with results, it lacks config.yaml or metrics.json")
    if len(folders) < 2:
        raise UserError(f"job.runs={wanted}: {len(folders)} runs with results found, comparing takes two")
    common = os.path.commonpath([folder.parent for folder in folders])
    runs = [_read(folder, os.path.relpath(folder, common)) for folder in folders]
    return sorted(runs, key=lambda run: -np.nan_to_num(run.metric("map_11pt"), nan=-1))


def is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and (folder / "metrics.json").is_file()


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Dotted config keys in which the runs differ -> the value of each run (None: it has no such key)."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    values = {key: [run.config.get(key) for run in runs] for key in keys}
    different = {key: row for key, row in values.items() if any(value != row[0] for value in row)}
    hidden = SILENT + tuple(prefix for name, prefixes in FOLLOWS.items() if name in different for prefix in prefixes)
    return {key: row for key, row in different.items() if key in FOLLOWS or not key.startswith(hidden)}


def metric_names(runs: Sequence[Run]) -> list[str]:
    """Those of METRICS that some run has."""
    return [name for name in METRICS if any(name in run.metrics for run in runs)]


def _read(folder: Path, name: str) -> Run:
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=True)
        metrics = json.loads((folder / "metrics.json").read_text())
        return Run(name, folder, dict(_flat(config, "")), dict(metrics), _epochs(folder), _mean_curve(folder))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OmegaConfBaseException) as error:
        raise UserError(f"{folder}: this run cannot be read ({' '.join(str(error).split())})") from error


def _flat(node: Any, prefix: str) -> list[tuple[str, Any]]:
    if not isinstance(node, dict) or not node:
        return [(prefix, node)]
    return [item for key, child in node.items() for item in _flat(child, f"{prefix}.{key}" if prefix else str(key))]


def _epochs(folder: Path) -> dict[str, np.ndarray]:
    file = folder / "metrics.csv"
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    columns = rows[0] if rows else {}
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in columns}


def _mean_curve(folder: Path) -> np.ndarray | None:
    """Mean over the classes of the best precision at each recall or beyond, 0 where a class does not get that far."""
    file = folder / "curves.json"
    if not file.is_file():
        return None
    curves = [_at_recalls(curve["recall"], curve["precision"]) for curve in json.loads(file.read_text()).values()]
    return np.mean(curves, axis=0) if curves else None


def _at_recalls(recall: Sequence[float], precision: Sequence[float]) -> np.ndarray:
    best = np.maximum.accumulate(np.asarray(precision, float)[::-1])[::-1]
    return np.append(best, 0.0)[np.searchsorted(np.asarray(recall, float), RECALL)]
