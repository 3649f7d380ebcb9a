"""The entry point: `python -m ssd.run key=value …`, or `ssd` once installed.

Imports nothing heavy, so that help, completion and errors answer at once; the job imports what it needs.
"""

import errno
import importlib
import logging
import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ssd.config import CONF, compose, validate
from ssd.errors import InterruptedRun, UserError
from ssd.overrides import composable, explain, inherit, normalise, sweep_points
from ssd.resume import resume_words

# Flags that make Hydra print something instead of running; their words need not be a whole configuration.
INFORMATION = {"-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion"}

# Where a file system says no, to Hydra or to a job: one line, not a traceback.
OUTSIDE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EFBIG, errno.EIO}

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run_job(cfg: DictConfig) -> float | None:
    """Runs the configured job; returns the number a sweep optimises (validation mAP), where the job has one."""
    validate(cfg)
    if cfg.device.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(cfg.device.threads)
    try:
        job = importlib.import_module(f"ssd.jobs.{cfg.job.name}")
        return job.run(cfg, Path(HydraConfig.get().runtime.output_dir))
    except InterruptedRun as error:
        log.warning("%s", error)
        sys.exit(error.exit_code)  # of a sweep, too
    except UserError as error:
        log.error("error: %s", error)
        if HydraConfig.get().mode == RunMode.MULTIRUN or full_errors():
            raise  # the other jobs of a sweep go on
        sys.exit(error.exit_code)


def main() -> None:
    """Runs the command line; a UserError ends as one line on stderr and its exit code (2)."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "0")
    os.environ["SSD_FULL_ERROR"] = os.environ["HYDRA_FULL_ERROR"]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise instead of printing its own report
    try:
        sys.argv[1:] = resume_words(inherit(normalise(sys.argv[1:])))
        check(sys.argv[1:])
        run_job()
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except OSError as error:
        if error.errno not in OUTSIDE or full_errors():
            raise
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        sys.exit(UserError.exit_code)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if full_errors():
            raise
        if not (isinstance(error, UserError) and logging.getLogger().handlers):  # the job has said its own
            print(f"error: {explain(error, sys.argv[1:])}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, UserError) else UserError.exit_code)


def full_errors() -> bool:
    """Whether the user asked Hydra's way for tracebacks instead of one-line errors."""
    return os.environ.get("SSD_FULL_ERROR", "0") not in ("0", "")


def check(arguments: list[str]) -> None:
    """Composes the configuration, for a sweep once per value, so that a typo is told before anything runs."""
    if INFORMATION & {argument.split("=")[0] for argument in arguments}:
        return
    words = composable(arguments)
    sweep = bool({"-m", "--multirun"} & set(arguments))
    try:
        points = list(sweep_points(words)) if sweep else [words]
    except Exception as error:
        raise UserError(explain(error, words)) from error
    for point in points:
        compose(point)


if __name__ == "__main__":
    main()
