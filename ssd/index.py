"""checkpoints.json: which checkpoints a run has, and what their files must hold. Imports nothing heavy.

    best      the best one by validation; absent until one is measured
    last      the latest
    kept      all of them, oldest first; those with `states` can be resumed
    finished  whether the run has come to its end
    words     what its command line said

One checkpoint: epoch (whole ones done), step (of the whole run), params and states (files), sha256 of each, best (the
params that were the best then), the metric that decides, and values: all numbers of the epoch's validation.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ssd.errors import UserError
from ssd.files import open_regular, read_limited
from ssd.tracking.credentials import bare_values

NAME = "checkpoints.json"
FOLDER = "checkpoints"  # of a run directory
LOCK = ".lock"  # in the run directory, held by the process that trains

MAX_BYTES = 64_000_000

Entry = dict[str, Any]


def read_index(path: Path) -> dict[str, Any]:
    """The index; what an earlier version did not write is filled in. Errors: UserError when damaged."""
    try:
        index = json.loads(read_limited(path, MAX_BYTES, "an index of checkpoints"))
        entries = [index["last"], *index.get("kept", []), *([index["best"]] if "best" in index else [])]
        for entry in entries:
            for file in (entry["params"], entry.get("states")):
                if file is not None and Path(file).name != file:
                    raise ValueError(f"{file} lies outside of its folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); name the .params file instead") from error
    return {"kept": [], "finished": False, **index, "words": bare_values(index.get("words", []))}


def epoch_of(entry: Entry) -> int:
    """The epoch that a checkpoint is of, as metrics.csv counts: one that ended before its last step is the one under
    way."""
    return int(entry["epoch"]) + ("+" in entry["params"])


def find_entry(params: Path) -> tuple[str | None, Entry] | None:
    """Entry of a parameter file in the index beside it, and whether it is the "best" or the "last" one; None without.

    Errors: UserError for a damaged index.
    """
    if not params.with_name(NAME).is_file():
        return None
    index = read_index(params.with_name(NAME))
    for kind in ("best", "last"):
        if kind in index and index[kind]["params"] == params.name:
            return kind, index[kind]
    return next(((None, entry) for entry in index["kept"] if entry["params"] == params.name), None)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def damage(folder: Path, entry: Entry, kind: str) -> str | None:
    """What is wrong with the file of an entry, `kind` params or states; None when it is as it was written."""
    path = folder / entry[kind]
    try:
        if kind in entry.get("sha256", {}) and sha256(path) != entry["sha256"][kind]:
            return f"{path} is not what was written (its checksum differs)"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return None


def check_file(params: Path) -> None:
    """Compares a parameter file with the index beside it, where one names it. Errors: UserError when it differs."""
    index = params.with_name(NAME)
    if not index.is_file():
        return
    found = read_index(index)
    for entry in [*found["kept"], found["last"], *([found["best"]] if "best" in found else [])]:
        if entry["params"] == params.name and (wrong := damage(params.parent, entry, "params")):
            raise UserError(f"{wrong}; name another checkpoint of {params.parent}")
