"""The entry point: `python -m ssd.run key=value …`, or `ssd` once installed.

Imports nothing heavy, so that help, completion and errors answer at once; the job imports what it needs.
"""

import errno
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ssd import jobs
from ssd.config import credentials
from ssd.config.compose import compose, explain, lacks_plugin
from ssd.config.overrides import (
    COMMAND,
    composable,
    current_overrides,
    flags_first,
    groups,
    normalize,
    still_effective,
    sweep_points,
    take_overrides,
)
from ssd.config.paths import CONF
from ssd.config.targets import confined
from ssd.runs.inherit import inherit
from ssd.runs.rerun import saved_overrides
from ssd.runs.resume import resume_overrides
from ssd.sweeps.job import Sweep, close_unfinished, end_if_asked, run_apart
from ssd.utils.errors import InterruptedRun, UserError
from ssd.utils.logs import one_line
from ssd.utils.versions import version_line

# Flags that make Hydra print something instead of running; their overrides need not be a whole configuration.
INFORMATION = {"-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion"}
MULTIRUN = {"-m", "--multirun"}

# Where a file system says no, to Hydra or to a job: one line, not a traceback.
OUTSIDE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR, errno.EFBIG,
           errno.EIO, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ}  # fmt: skip

MISSING_PLUGIN = "this hydra/launcher= or hydra/sweeper= is not installed: pip install 'ssd[sweep]'"

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run_job(cfg: DictConfig) -> float | None:
    """Runs the configured job; returns the number a sweep optimizes (validation mAP), where the job has one."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return run_apart(cfg, folder)
    try:
        return jobs.run(cfg, folder)
    except InterruptedRun as error:
        log.warning("%s", error)
        sys.exit(error.exit_code)
    except UserError as error:
        log.error("error: %s", error)
        if full_errors():
            raise
        sys.exit(error.exit_code)


def main() -> None:
    """Runs the command line; a UserError ends as one line on stderr and its exit code (2)."""
    if sys.argv[1:] == ["--version"]:
        print(version_line())
        return
    credentials.guard()
    try:
        sys.argv[1:] = current_overrides(take_overrides(with_job(sys.argv[1:])))
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    with confined(sys.argv[1:]):
        _main()


def _main() -> None:
    os.environ.setdefault("HYDRA_FULL_ERROR", "0")
    os.environ["SSD_FULL_ERROR"] = os.environ["HYDRA_FULL_ERROR"]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise instead of printing its own report
    try:
        check_readable([*sys.argv[1:], working_directory()])
        overrides = inherit(normalize(sys.argv[1:]))
        sys.argv[1:] = flags_first(resume_overrides([*rerun_overrides(overrides), *overrides]))
        os.environ[COMMAND] = json.dumps(sys.argv[1:])
        check(sys.argv[1:])
        if os.environ.get("SLURM_PROCID", "0") != "0":
            from ssd.jobs.worker_process import follow_slurm

            follow_slurm(sys.argv[1:])
        try:
            run_job()
        except Exception:
            end_if_asked()  # whatever the interruption has become on its way
            raise
        finally:
            failed = finish_sweep()
        end_if_asked()
        if failed:
            sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if full_errors():
            raise
        text = MISSING_PLUGIN if lacks_plugin(error) else explain(error, sys.argv[1:])
        print(f"error: {one_line(credentials.scrubbed(text))}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, UserError) else UserError.exit_code)
    except OSError as error:  # after Hydra's: its missing choices are OSErrors, too
        if error.errno not in OUTSIDE or full_errors():
            raise
        print(f"error: {one_line(str(error.filename or 'output'))}: {error.strerror}", file=sys.stderr)
        sys.exit(UserError.exit_code)
    except (RuntimeError, ImportError) as error:
        if not lacks_plugin(error):
            raise
        print(f"error: {MISSING_PLUGIN}", file=sys.stderr)
        sys.exit(UserError.exit_code)


def with_job(arguments: list[str]) -> list[str]:
    """The command line with job=models where its first word is models, and so on for every job."""
    first = arguments[0] if arguments else ""
    return [f"job={first}", *arguments[1:]] if first in groups()["job"] else arguments


def working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the working directory is gone; change to another one") from error


def check_readable(texts: Sequence[str]) -> None:
    """Files of a run are UTF-8, and name its paths. Errors: UserError for a text that is not."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(text).decode(errors="backslashreplace")
            raise UserError(f"{shown}: is not UTF-8 text, as the files of a run are; rename what it names") from error


def rerun_overrides(overrides: list[str]) -> list[str]:
    """What rerun= stands for: the overrides of the saved run. If that was a job of a sweep, it was this one job."""
    said = still_effective(saved_overrides(overrides), overrides, ["logger"])
    sweep = bool(MULTIRUN & set(overrides))
    return [*said, "hydra.sweeper.params=null" if sweep else "hydra.mode=RUN"] if said else []


def finish_sweep() -> int:
    """Makes the leaderboard of a sweep, however it ended; returns how many of its jobs failed, 0 for a single run."""
    if Sweep.folder is None:
        return 0
    from ssd.sweeps.leaderboard import make_leaderboard

    close_unfinished()
    return make_leaderboard(Sweep.folder)


def full_errors() -> bool:
    """Whether the user asked Hydra's way for tracebacks instead of one-line errors."""
    return os.environ.get("SSD_FULL_ERROR", "0") not in ("0", "")


def check(arguments: list[str]) -> None:
    """Composes the configuration, for a sweep once per value, so that a typo is reported before anything runs."""
    if INFORMATION & {argument.split("=")[0] for argument in arguments}:
        return
    overrides = composable(arguments)
    sweep = bool(MULTIRUN & set(arguments))
    try:
        points = list(sweep_points(overrides)) if sweep else [overrides]
    except Exception as error:
        raise UserError(explain(error, overrides)) from error
    for point in points:
        compose(point)


if __name__ == "__main__":
    main()
