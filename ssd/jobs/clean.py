"""job=clean: packed records that no run directory refers to, and what killed packings left; listed, and removed on
request."""

import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ssd.data.base import SPLITS
from ssd.data.recordio.cache import RECORDS, size_of, unused
from ssd.utils.atomic_files import LOCK, read_json, try_lock, write_json
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

PACKED = re.compile(rf"(?:{'|'.join(SPLITS)})-[0-9a-f]{{12}}")  # a folder of records
# One not finished, or not gone.
DRAFT = re.compile(rf"\.{PACKED.pattern}\.(?:part|[0-9a-f]{{12}}(?:[0-9a-f]{{8}})?\.(?:tmp|gone))")
PREPARED = "prepare.json"
MAX_BYTES = 64_000_000  # of records.json and prepare.json
UNKNOWN = "which records its run needs is not known, so nothing is removed; mend or delete that file"
STILL_WRITTEN = 3600.0  # seconds since its last change for which a draft without a lock is left alone


@dataclass(frozen=True)
class Found:
    """A folder of records. needed_by: a run that refers to it, "in use", or None."""

    folder: str
    megabytes: float
    needed_by: str | None
    removed: bool = False


def run(cfg: DictConfig, folder: Path) -> None:
    """Writes clean.json into the run directory. Errors: UserError when there are no such folders."""
    place = Path(cfg.training.records)
    if not place.is_dir():
        raise UserError(f"training.records={place}: no such folder, so no records")
    runs = Path(cfg.job.runs)
    if not runs.is_dir():
        raise UserError(f"job.runs={runs}: no such folder; name the one that your runs are in, else nothing is needed")
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    needed = dict(references(runs))
    found = [examined(each, needed, cfg.job.delete) for each in record_folders(place)]
    write_json(folder / "clean.json", [asdict(each) for each in found])
    for each in found:
        what = "removed" if each.removed else f"needed by {each.needed_by}" if each.needed_by else "no run needs it"
        log.info("%9.1f MB  %s  %s", each.megabytes, each.folder, what)
    idle = [each for each in found if not each.needed_by]
    megabytes = sum(each.megabytes for each in idle)
    if cfg.job.delete:
        log.info("removed %d of %d folders, %.1f MB", len(idle), len(found), megabytes)
    else:
        log.info("%d of %d folders are needed by no run below %s: %.1f MB%s", len(idle), len(found), runs, megabytes,
                 "; job.delete=true removes them" if idle else "")  # fmt: skip


def references(runs: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """((dataset, folder), run) of all records that run directories refer to, wherever the files have been moved.

    Errors: UserError for what cannot be read: the records of that run are not known.
    """
    for place, _, names in os.walk(runs, onerror=_unreadable):
        for name in sorted({RECORDS, PREPARED} & set(names)):
            for folder in _folders_of(Path(place) / name):
                yield _name(Path(folder)), place


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: {error.strerror}, so the records that runs in it need are not known") from error


def _folders_of(file: Path) -> list[str]:
    """The folders of records that records.json, or prepare.json, names. Errors: UserError for one that is damaged."""
    try:
        content = read_json(file, MAX_BYTES, "a list of records")
        if file.name == RECORDS:
            folders = list(content.values())
        else:
            folders = [os.path.dirname(split["file"]) for split in content["splits"].values()]
        if not all(Path(folder).name for folder in folders):
            raise ValueError("it names no folders")
    except UserError as error:
        raise UserError(f"{error}; {UNKNOWN}") from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{file}: damaged ({type(error).__name__}: {error}); {UNKNOWN}") from error
    return folders


def record_folders(place: Path) -> list[Path]:
    """Finished and unfinished ones of all datasets, in the order of their names."""
    below = [folder for dataset in place.iterdir() if dataset.is_dir() for folder in dataset.iterdir()]
    return sorted(
        folder
        for folder in below
        if (PACKED.fullmatch(folder.name) or DRAFT.fullmatch(folder.name)) and folder.is_dir()
    )


def examined(folder: Path, needed: dict[tuple[str, str], str], delete: bool) -> Found:
    megabytes = round(size_of(folder) / 1e6, 1)
    if run_ := needed.get(_name(folder)):
        return Found(str(folder), megabytes, run_)
    with idle(folder) as free:
        if not free:
            return Found(str(folder), megabytes, "in use")
        if delete:
            gone = folder.with_name(f".{folder.name.strip('.')}.{os.urandom(6).hex()}.gone")
            os.rename(folder, gone)  # nobody finds half of it
            shutil.rmtree(gone)
        return Found(str(folder), megabytes, None, removed=delete)


@contextlib.contextmanager
def idle(folder: Path) -> Iterator[bool]:
    """Whether no process reads or writes a folder of records; nobody begins to while the block lasts."""
    if PACKED.fullmatch(folder.name):
        with unused(folder) as free:
            yield free
        return
    if not folder.name.endswith(".part"):
        yield time.time() - folder.stat().st_mtime > STILL_WRITTEN
        return
    handle = try_lock(folder / LOCK)
    yield handle is not None
    if handle is not None:
        os.close(handle)


def _name(folder: Path) -> tuple[str, str]:
    return folder.parent.name, folder.name
