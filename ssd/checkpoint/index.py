"""checkpoints.json: which checkpoints a run has, and what their files must hold. Imports nothing heavy.

    best      the best one by validation; absent until one is measured
    last      the latest
    kept      all of them, oldest first; those with `states` can be resumed
    finished  whether the run has come to its end
    overrides     what its command line said

One checkpoint: epoch (whole ones done), step (of the whole run), params and states (files), sha256 of each, best (the
params that were the best then), the metric that decides, and values: all numbers of the epoch's validation.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssd.config.credentials import bare_values
from ssd.utils.atomic_files import open_regular, read_json
from ssd.utils.errors import UserError

NAME = "checkpoints.json"
FOLDER = "checkpoints"  # of a run directory
LOCK = ".lock"  # in the run directory, held by the process that trains

MAX_BYTES = 64_000_000

Entry = dict[str, Any]


def read_index(path: Path) -> dict[str, Any]:
    """The index; what an earlier version did not write is filled in. Errors: UserError when damaged."""
    try:
        index = {"kept": [], "finished": False, "words": [], **read_json(path, MAX_BYTES, "an index of checkpoints")}
        kinds = {"kept": list, "finished": bool, "words": list, "last": dict, "best": dict}
        if wrong := _wrong_kind(index, kinds, ("best",)):
            raise ValueError(wrong)
        index["kept"] = [_entry(content) for content in index["kept"]]
        index |= {name: _entry(index[name]) for name in ("last", "best") if name in index}
        index["words"] = bare_values(index["words"])
    except UserError as error:
        raise UserError(f"{error}; name the .params file instead") from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); name the .params file instead") from error
    return index


def _entry(content: Any) -> Entry:
    """A checkpoint with all its keys. Errors: ValueError saying what makes it none."""
    if not isinstance(content, dict):
        raise ValueError("a checkpoint is no object")
    entry = {"states": None, **content}
    for file in (entry.get("params"), entry["states"], entry.get("best")):
        if isinstance(file, str) and (Path(file).name != file or "\0" in file):
            raise ValueError(f"{file} lies outside of its folder")
    text, number = (str, type(None)), (int, float, type(None))
    kinds = {"epoch": int, "step": int, "params": str, "states": text, "best": text, "sha256": dict, "values": dict}
    if wrong := _wrong_kind(entry, kinds, ("best", "sha256", "values")):
        raise ValueError(f"of a checkpoint {wrong}")
    measured = {**entry.get("values", {}), **{name: value for name, value in entry.items() if name not in kinds}}
    if wrong_number := [name for name, value in measured.items() if not isinstance(value, number)]:
        raise ValueError(f"of a checkpoint {wrong_number[0]!r} is no number")
    if not all(isinstance(digest, str) for digest in entry.get("sha256", {}).values()):
        raise ValueError("of a checkpoint 'sha256' is of another kind")
    return entry


def _wrong_kind(content: Mapping[str, Any], kinds: Mapping[str, Any], optional: tuple[str, ...]) -> str | None:
    """The first of these keys that is missing, or has a value of another kind."""
    for name, kind in kinds.items():
        if name not in content:
            if name not in optional:
                return f"{name!r} is missing"
        elif not isinstance(content[name], kind) or (kind is int and isinstance(content[name], bool)):
            return f"{name!r} is of another kind"
    return None


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


def verify_checksum(folder: Path, entry: Entry, kind: str) -> str | None:
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
        if entry["params"] == params.name and (wrong := verify_checksum(params.parent, entry, "params")):
            raise UserError(f"{wrong}; name another checkpoint of {params.parent}")
