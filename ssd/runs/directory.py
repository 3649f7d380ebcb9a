"""What may lie in a run directory that a job is about to write into. Imports nothing heavy.

It may have been made by somebody else. A link in it would have the job write to, or remove, files elsewhere; opening a
pipe may wait forever. Hydra opens the log and writes .hydra/ before any job begins, so that its callback looks first.
"""

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ssd.config.credentials import scrubbed
from ssd.utils.atomic_files import SPECIAL
from ssd.utils.errors import UserError
from ssd.utils.logs import one_line

# What jobs write, where the directory is not known to be a run's: anything else in it is no concern of theirs.
WRITTEN = re.compile(
    r"\.hydra|\.lock|\.mlflow.*|\.places|\.submitit|checkpoints|images|pictures|videos|tensorboard|voc|unchecked|model|"
    r"experiments|.*\.(log|csv|jsonl?|html|png|svg|yaml|md|txt|db|onnx|params)",
    re.DOTALL,
)


class CheckDirectory(Callback):
    """Refuses the directories of a run and of a sweep before Hydra writes into them. Hydra drops a callback's
    exceptions, so that this one ends the process itself."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        _or_exit(_resolved(config, "hydra.run.dir"), entire=bool(config.get("resume")))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        sweep = _resolved(config, "hydra.sweep.dir")
        _or_exit(sweep, entire=False)
        for job in sweep.glob("*/"):
            if not job.is_file():
                _or_exit(job, entire=True)


def _resolved(config: DictConfig, key: str) -> Path:
    """A folder that may be named by ${hydra:…}, which Hydra answers only later."""
    hydra = HydraConfig.instance()
    before = hydra.cfg
    try:
        hydra.set_config(config)
        return Path(str(OmegaConf.select(config, key)))
    finally:
        hydra.cfg = before


def _or_exit(folder: Path, entire: bool) -> None:
    try:
        check_directory(folder, entire)
    except UserError as error:
        print(f"error: {one_line(scrubbed(str(error)))}", file=sys.stderr)
        sys.exit(error.exit_code)


def check_directory(folder: Path, entire: bool) -> None:
    """Refuses links that lead out of a run directory, pipes, sockets and devices. The directory itself may be a link.

    entire: look at all that lies in it, not at what jobs write alone. Errors: UserError naming the first.
    """
    root = os.path.realpath(folder)
    for entry in _entries(folder, None if entire else WRITTEN):
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.commonpath([root, target]) != root:
                raise UserError(
                    f"{entry.path}: is a link out of the run directory, to {target}, which would be written to; "
                    "remove it, or put there what it links to"
                )
        elif kind := SPECIAL.get(stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)):
            raise UserError(f"{entry.path}: is {kind}, in a run directory only files and folders may be; remove it")


def _entries(folder: Path | str, wanted: re.Pattern[str] | None) -> "Iterator[os.DirEntry[str]]":
    """All that lies in a folder, and in the folders in it, links not followed."""
    try:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # the first is a new run, others end as they do
        return
    for entry in found:
        if wanted is None or wanted.fullmatch(entry.name):
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, None)
