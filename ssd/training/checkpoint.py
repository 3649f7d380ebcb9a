"""Checkpoints of a run: written whole or not at all, the best and the last found through checkpoints.json."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ssd.engine import mx
from ssd.errors import UserError
from ssd.files import whole_file, write_atomically
from ssd.model import INDEX, Params

PREFIX = "ssd"


class Checkpoints:
    """The folder <run>/checkpoints: ssd-symbol.json, ssd-NNNN.params, ssd-NNNN.states, checkpoints.json.

    Keeps the best epoch by `metric` and the last one.
    """

    def __init__(self, folder: Path, symbol: Any, metric: str) -> None:
        self.folder = folder
        self.metric = metric
        self._index: dict[str, dict[str, Any]] = {}
        self.symbol = folder / f"{PREFIX}-symbol.json"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.symbol, symbol.tojson().encode())

    @property
    def best(self) -> Path:
        """Parameter file of the best epoch so far; there is one once an epoch is saved."""
        return self.folder / self._index["best"]["params"]

    @property
    def best_epoch(self) -> int:
        return int(self._index["best"]["epoch"])

    def save(self, epoch: int, params: tuple[Params, Params], states: Params, metrics: dict[str, float]) -> bool:
        """Writes an epoch and forgets those that are neither best nor last; returns whether it is the best so far.

        Errors: UserError when a parameter is not finite; nothing is written then.
        """
        arrays = {f"arg:{name}": array for name, array in params[0].items()}
        arrays |= {f"aux:{name}": array for name, array in params[1].items()}
        for name, array in arrays.items():
            if not np.isfinite(array.asnumpy()).all():
                raise UserError(f"parameter {name[4:]} is not finite after epoch {epoch}; {self.advice()}")
        entry: dict[str, Any] = {
            "epoch": epoch,
            "params": f"{PREFIX}-{epoch:04d}.params",
            "states": f"{PREFIX}-{epoch:04d}.states",
        }
        entry |= {self.metric: metrics.get(self.metric)}
        for name, content in ((entry["params"], arrays), (entry["states"], states)):
            with whole_file(self.folder / name) as draft:
                mx.nd.save(str(draft), content)
        improved = self._improves(entry)
        self._index = {"best": entry if improved else self._index["best"], "last": entry}
        write_atomically(self.folder / INDEX, json.dumps(self._index, indent=2).encode())
        self._prune()
        return improved

    def advice(self) -> str:
        kept = f"the last good checkpoint is {self.folder / self._index['last']['params']}" if self._index else ""
        return "; ".join(filter(None, [kept, "lower optimizer.learning_rate or set optimizer.clip_gradient"]))

    def _improves(self, entry: dict[str, Any]) -> bool:
        if not self._index:
            return True
        value, best = entry[self.metric], self._index["best"][self.metric]
        if best is None or math.isnan(best):
            return True
        return value is not None and value >= best

    def _prune(self) -> None:
        kept = {entry[key] for entry in self._index.values() for key in ("params", "states")}
        for pattern in ("*.params", "*.states"):
            for file in self.folder.glob(f"{PREFIX}-{pattern}"):
                if file.name not in kept:
                    file.unlink()


def optimizer_states(module: Any) -> Params:
    """The optimizer's arrays (momentum, …) as "parameter:slot" -> array, for mx.nd.save: no pickle."""
    updater = module._kvstore._updater if module._update_on_kvstore else module._updater
    names = updater.optimizer.idx2name
    arrays: Params = {}
    for index, state in updater.states.items():
        slots = state if isinstance(state, (tuple, list)) else (state,)
        name = names.get(index, str(index))
        arrays |= {f"{name}:{slot}": array for slot, array in enumerate(slots) if array is not None}
    arrays["num_update:0"] = mx.nd.array([updater.optimizer.num_update])
    return arrays
