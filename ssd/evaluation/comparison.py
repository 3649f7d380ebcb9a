"""Several runs side by side: where their configurations differ, what came of it, and which of it may be ranked."""

import glob
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssd.runs.results import (
    FILE,
    FINISHED,
    HEADLINE,
    Conditions,
    group_letters,
    key_of,
    measured_of,
    read_metrics,
    read_table,
    unlike,
    wrong_number,
)
from ssd.runs.saved import CONFIG, read_config
from ssd.utils.atomic_files import read_json
from ssd.utils.errors import UserError
from ssd.utils.flatten import leaves

METRICS = (HEADLINE, "map_area", "AP", "AP50", "AP75", "precision", "recall", "f1", "mean_iou")
RATES = ("precision", "recall", "f1")  # at thresholds
SPLITS = ("val", "test", "train")  # by which of them runs are ranked, the first that they have in common
RECALL = np.linspace(0, 1, 101)
SILENT = ("logger.",)  # keys that change no result
# Where the name of one of these differs, the keys that follow from it are not listed.
FOLLOWS = {
    "backbone.name": ("backbone.", "head."),
    "data_shape.name": ("data_shape.", "head."),
    "dataset.name": ("dataset.",),
}
ABSENT = "–"  # shown for a key that a run does not have
LEAVES = 8  # keys of one table that are listed one by one where they differ; more become one row
ITEMS = 6  # of a list that is shown as it is; a longer one as its length and digest
DIGITS = 6  # of a digest
MAX_CURVES = 512_000_000  # bytes: of 100,000 classes
# What files of a run that are damaged end in.
DAMAGE = (UserError, OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError)


@dataclass(frozen=True)
class Run:
    """A run directory, read. config: dotted key -> value; metrics: metrics.json; split: of its headline numbers, and
    measured: how those of each split were measured; epochs: columns of metrics.csv, float64 [rows], nan where empty;
    precision: float64 [101], of the headline split, mean over the classes at recall 0, .01, … 1, or None."""

    name: str
    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    split: str
    epochs: dict[str, np.ndarray]
    precision: np.ndarray | None
    measured: Mapping[str, Conditions] = field(default_factory=dict)

    def metric(self, split: str, name: str) -> float:
        value = self.metrics.get(name if split == self.split else f"{split}/{name}")
        return float("nan") if value is None else float(value)

    @property
    def splits(self) -> list[str]:
        """Those that it has numbers of."""
        names = dict.fromkeys([*SPLITS, self.split])
        return [split for split in names if not np.isnan(self.metric(split, HEADLINE))]

    @property
    def status(self) -> str:
        """Empty for one that came to its end, else what became of it."""
        status, reason = self.metrics.get("status", FINISHED), self.metrics.get("reason")
        return "" if status == FINISHED else f"{status}: {reason}" if reason else str(status)


@dataclass(frozen=True)
class Ranking:
    """groups: numbers of runs, those of a group measured alike and the best first. split: whose mAP that is by; None
    where each run's own headline counts. notes: what a reader must know before comparing, the first thing first."""

    groups: list[list[int]]
    split: str | None
    notes: list[str]


@dataclass(frozen=True)
class Comparison:
    """runs: in the order of the ranking, by group. left_out: folders that cannot be compared, with the reason."""

    runs: list[Run]
    ranking: Ranking
    left_out: list[tuple[str, str]]

    def alike(self, split: str) -> list[list[int]]:
        """The places of runs with numbers of this split, by groups that were measured alike."""
        groups: dict[str, list[int]] = {}
        for place, run in enumerate(self.runs):
            if split in run.splits:
                groups.setdefault(key_of(run.measured.get(split)), []).append(place)
        return list(groups.values())

    @property
    def letters(self) -> list[str]:
        """Of the group of each run: "A", "B", …; empty where there is one group."""
        groups = self.ranking.groups
        return [name for name, group in zip(group_letters(len(groups)), groups, strict=True) for _ in group]


def find_runs(wanted: str | Sequence[str] | None) -> Comparison:
    """The runs of a list of run directories or of a glob, e.g. "outputs/train/*/*", ranked.

    Directories that a glob finds and that are no runs at all are passed over. Errors: UserError for none, for fewer
    than two that hold results, and for a named directory that does not exist.
    """
    if not wanted:
        raise UserError("job=compare needs job.runs=: a glob such as outputs/train/*/*, or a list [first,second]")
    if isinstance(wanted, str):
        found = [Path(name) for name in sorted(glob.glob(wanted, recursive=True)) if _looks_like_a_run(Path(name))]
    else:
        found = [Path(name) for name in wanted]
        if stray := [folder for folder in found if not folder.is_dir()]:
            raise UserError(f"job.runs: {stray[0]} is no directory")
    folders = list({folder.resolve(): None for folder in found})
    common = os.path.commonpath([folder.parent for folder in folders]) if folders else ""
    names = {folder: os.path.relpath(folder, common) for folder in folders}
    runs, left_out = [], []
    for folder in folders:
        read = _unfit(folder) or _read(folder, names[folder])
        if isinstance(read, Run):
            runs.append(read)
        else:
            left_out.append((names[folder], read))
    if len(runs) < 2:
        skipped = "".join(f"; {name}: {reason}" for name, reason in left_out)
        raise UserError(f"job.runs={wanted}: {len(runs)} runs with results found, comparing takes two{skipped}")
    ranking = rank(runs)
    order = [number for group in ranking.groups for number in group]
    places = iter(range(len(runs)))
    groups = [[next(places) for _ in group] for group in ranking.groups]
    return Comparison([runs[number] for number in order], Ranking(groups, ranking.split, ranking.notes), left_out)


def rank(runs: Sequence[Run]) -> Ranking:
    """By the mAP (11-point) of a split that all have and that was measured alike; without one, group by group."""
    notes = []
    for split in SPLITS:
        if not all(split in run.splits for run in runs):
            continue
        different = unlike(run.measured.get(split) for run in runs)
        if different is None:
            order = _best_first(runs, range(len(runs)), split)
            notes.append(f"ranked by mAP (11-point) on {split}" + _ways(runs[0].measured.get(split)))
            return Ranking([order], split, notes + _warnings(runs))
        notes.append(f"{split} was not measured alike, its numbers do not compare: {different}")
    groups: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        groups.setdefault(f"{run.split} {key_of(run.measured.get(run.split))}", []).append(number)
    if len(groups) == 1:  # of an earlier version, which does not say how
        split = runs[0].split
        notes = notes or [f"ranked by mAP (11-point) on {split}"]
        return Ranking([_best_first(runs, range(len(runs)), split)], split, notes + _warnings(runs))
    splits = sorted({run.split for run in runs})
    different = unlike(run.measured.get(run.split) for run in runs) or f"split ({', '.join(splits)})"
    first = f"ranked within groups only, whose numbers do not compare: {different}"
    ordered = [_best_first(runs, group, runs[group[0]].split) for group in groups.values()]
    return Ranking(sorted(ordered, key=len, reverse=True), None, [first, *_warnings(runs)])


def _best_first(runs: Sequence[Run], numbers: Sequence[int], split: str) -> list[int]:
    return sorted(numbers, key=lambda number: -np.nan_to_num(runs[number].metric(split, HEADLINE), nan=-1))


def _ways(how: Conditions | None) -> str:
    if how is None:
        return ""
    compat = f", metric.compat={how.compat}" if how.compat else ""
    return f", measured alike: {how.images} images of {how.dataset}, IoU {how.iou:g}{compat}"


def _warnings(runs: Sequence[Run]) -> list[str]:
    notes = []
    if unknown := [run.name for run in runs if not run.measured]:
        notes.append(f"runs of an earlier version do not say how they were measured: {', '.join(unknown)}")
    same = {(how.split, how.same_images) for run in runs for how in run.measured.values() if how.same_images}
    pairs = sorted({tuple(sorted(pair)) for pair in same})
    return notes + [
        f"{one} and {other} are the same images, and the checkpoints were chosen on them" for one, other in pairs
    ]


def _looks_like_a_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("config.yaml", FILE, ".hydra"))


def _unfit(folder: Path) -> str | None:
    """Why a directory cannot be compared."""
    if not (folder / "config.yaml").is_file():
        return "no config.yaml: it is no run directory, or ended before it began"
    if not (folder / FILE).is_file():
        return f"no {FILE}: nothing was measured"
    metrics = read_metrics(folder)
    if not metrics:
        return f"{FILE} cannot be read"
    if metrics.get(HEADLINE) is None:
        status = f" ({metrics['status']})" if "status" in metrics else ""
        return f"{FILE} has no {HEADLINE}{status}: nothing was measured"
    return None


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Dotted config keys in which the runs differ -> the value of each run, ABSENT where it has no such key."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    values = {key: [run.config.get(key, ABSENT) for run in runs] for key in keys}
    different = {key: row for key, row in values.items() if any(value != row[0] for value in row)}
    hidden = SILENT + tuple(prefix for name, prefixes in FOLLOWS.items() if name in different for prefix in prefixes)
    return {key: row for key, row in different.items() if key in FOLLOWS or not key.startswith(hidden)}


def folded(different: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """The same as text for a reader: a table or a group of which many keys differ becomes one row, long lists their
    length, each with a digest that is equal for equal contents."""
    members: dict[str, list[str]] = {}
    for key in different:
        for table in _tables(key):
            members.setdefault(table, []).append(key)
    rows: dict[str, list[str]] = {}
    for key, values in different.items():
        many = [name for name in _tables(key) if len(members[name]) > LEAVES]
        if not many:
            rows[key] = [shown(value) for value in values]
            continue
        keys = members[many[0]]
        columns = zip(*(different[one] for one in keys), strict=True)
        rows.setdefault(f"{many[0]}.* ({len(keys)} keys)", [_digested(list(column)) for column in columns])
    return rows


def _tables(key: str) -> list[str]:
    """What a key may be folded into, the smaller first: the table it stands in, its group; nothing for a name."""
    parent, _, leaf = key.rpartition(".")
    return [] if leaf == "name" or not parent else list(dict.fromkeys([parent, key.partition(".")[0]]))


def shown(value: Any) -> str:
    """A value of the configuration as a reader sees it."""
    if isinstance(value, list) and (len(value) > ITEMS or any(isinstance(item, (list, dict)) for item in value)):
        return f"{len(value)} items, {digest(value)}"
    return f"{value:.6g}" if isinstance(value, float) else plain(value)


def plain(value: Any) -> str:
    return "null" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _digested(values: list[Any]) -> str:
    known = [value for value in values if value not in (None, ABSENT)]
    return f"{len(known)} set, {digest(known)}" if known else ABSENT


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:DIGITS]


def unchanged(runs: Sequence[Run]) -> list[str]:
    """The groups of the configuration that are equal in all runs."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    different = {
        key.partition(".")[0] for key in keys if any(run.config.get(key) != runs[0].config.get(key) for run in runs)
    }
    return [group for group in dict.fromkeys(key.partition(".")[0] for key in keys) if group not in different]


def result_rows(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Label -> text per run: the numbers of every split that some run has, and what they stand for."""
    rows: dict[str, list[str]] = {}
    for split in dict.fromkeys(split for run in runs for split in run.splits):
        optimistic = any(how.optimistic for run in runs for how in [run.measured.get(split)] if how)
        for name in METRICS:
            values = [run.metric(split, name) for run in runs]
            if not np.isnan(values).all():
                star = " *" if name in RATES and optimistic else ""
                rows[f"{split} {name}{star}"] = ["" if np.isnan(value) else f"{value:.4f}" for value in values]
    for name in ("checkpoint", "epoch", "step"):
        if any(run.metrics.get(name) is not None for run in runs):
            rows[name] = ["" if run.metrics.get(name) is None else str(run.metrics[name]) for run in runs]
    return rows


FOOTNOTE = "* at thresholds chosen on this split itself: optimistic"


def _read(folder: Path, name: str) -> Run | str:
    """The run, or why its files cannot be read."""
    try:
        config = read_config(folder / CONFIG)
        metrics = read_metrics(folder)
        if wrong := wrong_number(metrics):
            raise ValueError(f"{FILE}: {wrong} is no number")
        flat = leaves(config)
        split = str(metrics.get("split") or flat.get("job.split") or "val")
        return Run(
            name, folder, flat, metrics, split, _epochs(folder), _mean_curve(folder, split), measured_of(metrics)
        )
    except DAMAGE as error:
        return f"its files cannot be read ({' '.join(str(error).split())})"


def _epochs(folder: Path) -> dict[str, np.ndarray]:
    file = folder / "metrics.csv"
    if not file.is_file():
        return {}
    columns, rows = read_table(file)
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in columns if rows}


def _mean_curve(folder: Path, split: str) -> np.ndarray | None:
    """Mean over the classes of the best precision at each recall or beyond, 0 where a class does not get that far."""
    if not split.isidentifier():
        return None
    files = [folder / f"curves_{split}.json", folder / "curves.json"]  # the second of an earlier version
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    read = read_json(file, MAX_CURVES, "curves of precision and recall")
    curves = [_at_recalls(curve["recall"], curve["precision"]) for curve in read.values()]
    return np.mean(curves, axis=0) if curves else None


def _at_recalls(recall: Sequence[float], precision: Sequence[float]) -> np.ndarray:
    best = np.maximum.accumulate(np.asarray(precision, float)[::-1])[::-1]
    return np.append(best, 0.0)[np.searchsorted(np.asarray(recall, float), RECALL)]
