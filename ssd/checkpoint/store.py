"""Checkpoints of a run: written whole or not at all, found through checkpoints.json, pruned, and read back checked.

A kill at any moment leaves the last ones readable: files get their names when they have reached the disk, the index is
replaced after them, and what it no longer names is deleted last.
"""

import errno
import logging
import math
import os
import resource
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssd.checkpoint.graph_file import accept
from ssd.checkpoint.index import NAME, Entry, read_index, sha256, verify_checksum
from ssd.checkpoint.model import Params, load_params
from ssd.checkpoint.param_file import read_arrays
from ssd.mxnet_compat import mx
from ssd.utils.atomic_files import durable_write, json_bytes
from ssd.utils.errors import UserError

FULL = 1_000_000  # bytes that are free on a disk on which nothing more can be written, at most

log = logging.getLogger(__name__)

PREFIX = "ssd"
CALMER = "lower optimizer.learning_rate or set optimizer.clip_gradient"  # of a training that diverges


@dataclass(frozen=True)
class RetentionPolicy:
    """Which checkpoints stay beside the best one: the `last` ones, which can be resumed, and every so many epochs."""

    last: int
    every: int | None


@dataclass(frozen=True)
class TrainPosition:
    """Where in a run: whole epochs done, steps of the next one done, and steps of all epochs done."""

    epoch: int
    rest: int
    step: int

    @property
    def name(self) -> str:
        return f"{PREFIX}-{self.epoch:04d}" + (f"+{self.rest}" if self.rest else "")


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint read back."""

    step: int
    params: tuple[Params, Params]
    states: Params

    @property
    def start(self) -> tuple[Params, Params]:
        """The parameters that training goes on with: of a run with training.ema, `params` are their averages."""
        found: tuple[Params, Params] = ({}, {})
        for name, array in self.states.items():
            if name.startswith(("weights/arg:", "weights/aux:")):
                found[name.startswith("weights/aux:")][name[len("weights/arg:") :]] = array
        return found if found[0] else self.params


class Checkpoints:
    """The folder <run>/checkpoints: ssd-symbol.json, ssd-NNNN.params, ssd-NNNN.states, checkpoints.json.

    ssd-0003+120 is 120 steps after epoch 3. metric: decides which epoch is the best; the later of two equals.
    """

    def __init__(self, folder: Path, metric: str, keep: RetentionPolicy) -> None:
        """An index that is there belongs to the run that is resumed."""
        self.folder = folder
        self.metric = metric
        self._keep = keep
        self._index: dict[str, Any] = read_index(folder / NAME) if (folder / NAME).is_file() else {"kept": []}
        self.symbol = folder / f"{PREFIX}-symbol.json"

    def write_symbol(self, symbol: Any) -> None:
        """The graph that all checkpoints are of. Nothing is written before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = symbol.tojson()
        self._write(self.symbol, lambda draft: draft.write_bytes(text.encode()))
        accept(text)

    def complete(self, epochs: int) -> bool:
        """Whether the run has come to its end with all of so many epochs done."""
        return bool(self._index.get("finished") and self._index["last"]["epoch"] >= epochs)

    @property
    def best(self) -> Path:
        """Parameter file of the best epoch so far, or of the last checkpoint before one is measured."""
        return self.folder / self._best["params"]

    @property
    def standing(self) -> tuple[str, Entry] | None:
        """Entry of `best`, and "best" or, before one is measured, "last"; None when nothing is saved."""
        best = self._index.get("best")
        if best is not None and (best.get("values") or best.get(self.metric) is not None):
            return "best", best
        return ("last", self._index["last"]) if "last" in self._index else None

    @property
    def _best(self) -> Entry:
        return self._index.get("best", self._index["last"])

    def begin(self, overrides: Sequence[str]) -> LoadedCheckpoint | None:
        """A new run of this command line: what an earlier one left here is forgotten."""
        if self._index["kept"]:
            log.warning("%s: the checkpoints of an earlier run are replaced", self.folder)
        (self.folder / NAME).unlink(missing_ok=True)
        self._index = {"kept": [], "finished": False, "words": list(overrides)}
        self._prune()
        return None

    def resume(self, overrides: Sequence[str]) -> LoadedCheckpoint | None:
        """The latest checkpoint that is not damaged; the run goes on from there, so later ones are forgotten.

        None when none was saved yet. Errors: UserError when all are damaged.
        """
        kept = self._index["kept"]
        self._index |= {"words": list(overrides), "finished": False}
        candidates = [place for place, entry in enumerate(kept) if entry["states"] is not None]
        for place in reversed(candidates):
            try:
                saved = self._read(kept[place])
            except UserError as error:
                log.warning("damaged checkpoint: %s", error)
                continue
            if place != candidates[-1]:
                log.warning("resuming from the one before, step %d", saved.step)
            self._rewind(place)
            return saved
        if candidates:
            raise UserError(f"{self.folder}: none of its {len(candidates)} checkpoints can be read; start a new run")
        return self.begin(overrides)

    def save(
        self, position: TrainPosition, params: tuple[Params, Params], states: Params, metrics: dict[str, float] | None
    ) -> bool:
        """Writes a checkpoint and forgets those that need not stay; returns whether it is the best so far.

        metrics: of an epoch's end; None in the middle. Errors: UserError when a parameter is not finite, or it cannot
        be written: the ones before are as they were.
        """
        arrays = {f"arg:{name}": array for name, array in params[0].items()}
        arrays |= {f"aux:{name}": array for name, array in params[1].items()}
        for name, array in arrays.items():
            if not np.isfinite(array.asnumpy()).all():
                raise UserError(f"parameter {name[4:]} is not finite after step {position.step}; {self.advice()}")
        entry: Entry = {"epoch": position.epoch, "step": position.step}
        entry |= {"params": f"{position.name}.params", "states": f"{position.name}.states", "sha256": {}}
        for kind, content in (("params", arrays), ("states", states)):
            entry["sha256"][kind] = self._save_arrays(self.folder / entry[kind], content)
        prefix = self.metric.partition("/")[0] + "/"
        measured = {name: value for name, value in (metrics or {}).items() if name.startswith(prefix)}
        unknown = [name for name, value in measured.items() if value is None or math.isnan(value)]
        entry["values"] = measured | dict.fromkeys(unknown)
        entry[self.metric] = entry["values"].get(self.metric)
        improved = metrics is not None and self._improves(entry)
        best = entry if improved else self._index.get("best")
        entry["best"] = best and best["params"]
        replaced = [old for old in self._index["kept"] if old["params"] != entry["params"]]
        before = self._index
        self._index = before | {"last": entry, "kept": self._pruned([*replaced, entry])}
        self._name_best(entry["best"])
        try:
            self._write_index()
        except BaseException:
            self._index = before  # what is on the disk, and what messages name as saved
            raise
        self._prune()
        return improved

    def finish(self) -> None:
        """The run has come to its end: resume=auto is to leave it alone."""
        self._index["finished"] = True
        self._write_index()

    def advice(self) -> str:
        kept = (
            f"the last good checkpoint is {self.folder / self._index['last']['params']}" if self._index["kept"] else ""
        )
        return "; ".join(filter(None, [kept, CALMER]))

    def gone(self) -> Path | None:
        """A file of the last checkpoint that is no longer on the disk, or the index; None when all of it is there, and
        when none was written."""
        if not self._index["kept"]:
            return None
        files = [NAME, *(self._index["last"][kind] for kind in ("params", "states"))]
        return next((self.folder / file for file in files if not (self.folder / file).is_file()), None)

    @property
    def resumable(self) -> bool:
        return bool(self._index["kept"]) and self.gone() is None

    def what_is_saved(self) -> str:
        if not self._index["kept"]:
            return "nothing is saved yet"
        gone = self.gone()
        return f"step {self._index['last']['step']} is saved" if gone is None else f"nothing is saved: {gone} is gone"

    def _read(self, entry: Entry) -> LoadedCheckpoint:
        for kind in ("params", "states"):
            if wrong := verify_checksum(self.folder, entry, kind):
                raise UserError(wrong)
        return LoadedCheckpoint(entry["step"], load_params(self.folder / entry["params"]),
                     read_arrays(self.folder / entry["states"], weights=False))  # fmt: skip

    def _rewind(self, place: int) -> None:
        kept = self._index["kept"][: place + 1]
        best = next((entry for entry in kept if entry["params"] == kept[-1].get("best")), None)
        if best is not None and (wrong := verify_checksum(self.folder, best, "params")):
            log.warning("damaged checkpoint: %s; the best one is sought anew", wrong)
            best = None
        self._index |= {"kept": kept, "last": kept[-1]}
        self._name_best(best and best["params"])
        self._write_index()
        self._prune()

    def _name_best(self, params: str | None) -> None:
        self._index.pop("best", None)
        for entry in self._index["kept"]:
            if entry["params"] == params:
                self._index["best"] = entry

    def _improves(self, entry: Entry) -> bool:
        best = self._index.get("best")
        before = None if best is None else best.get(self.metric)
        return before is None or (entry[self.metric] is not None and entry[self.metric] >= before)

    def _pruned(self, entries: list[Entry]) -> list[Entry]:
        """Those that stay; of the older ones only the parameters."""
        last = entries[-self._keep.last :]
        bests = {entry.get("best") for entry in last}
        older = [
            {**entry, "states": None}
            for entry in entries[: -self._keep.last]
            if entry["params"] in bests or self._regular(entry)
        ]
        return [*older, *last]

    def _regular(self, entry: Entry) -> bool:
        whole = "+" not in entry["params"]
        return self._keep.every is not None and whole and entry["epoch"] % self._keep.every == 0

    def _prune(self) -> None:
        """Deletes files that the index does not name, and drafts of writers that were killed."""
        named = {entry[kind] for entry in self._index["kept"] for kind in ("params", "states")}
        for pattern in (f"{PREFIX}-*.params", f"{PREFIX}-*.states", ".*.tmp"):
            for file in self.folder.glob(pattern):
                if file.name not in named:
                    file.unlink(missing_ok=True)

    def _write_index(self) -> None:
        self._write(self.folder / NAME, lambda draft: draft.write_bytes(json_bytes(self._index)))

    def _save_arrays(self, path: Path, arrays: Params) -> str:
        """Returns the checksum. MXNet does not look whether the end of a file reached a full disk: the names of the
        arrays come last, the size of the rest is known."""

        def write(draft: Path) -> str:
            mx.nd.save(str(draft), arrays)
            end = next(reversed(arrays)).encode()
            with open(draft, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - len(end)))
                whole = file.read() == end
            if not whole or size <= sum(array.size * array.dtype().itemsize for array in arrays.values()):
                raise OSError(code := _why_cut_short(draft.parent), os.strerror(code))
            return sha256(draft)

        return str(self._write(path, write))

    def _write(self, path: Path, write: Callable[[Path], Any]) -> Any:
        try:
            with durable_write(path) as draft:
                draft.touch()  # a folder that takes no files says why
                return write(draft)
        except (OSError, mx.base.MXNetError) as error:
            # MXNet only says that not everything could be written.
            reason = error.strerror if isinstance(error, OSError) else os.strerror(_why_cut_short(path.parent))
            raise UserError(f"cannot write {path}: {reason}; {self.what_is_saved()}") from error


def _why_cut_short(folder: Path) -> int:
    """The error number of a write that MXNet did not finish, which it does not say: the disk is full, or files of this
    process may not become that large."""
    limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    return errno.EFBIG if limited and shutil.disk_usage(folder).free > FULL else errno.ENOSPC
