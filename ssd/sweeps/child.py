"""A job of a sweep, seen from inside: `python -m ssd.sweeps.child`, started by ssd/sweeps/job.py.

Standard input brings the configuration as a pickle, and stays open as long as the parent lives: when it closes, the
job ends, so that killing a sweep leaves nothing behind that trains on. Anything more that comes is a request to end as
by Ctrl-C.
"""

import logging
import os
import pickle
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf

from ssd import jobs
from ssd.config import credentials
from ssd.config.resolvers import register
from ssd.config.schema import Config
from ssd.config.targets import literal
from ssd.sweeps.outcome import FAILED, FINISHED, INTERRUPTED, PRUNED, Outcome, read
from ssd.sweeps.share import slots, take
from ssd.tracking.events import Pruned
from ssd.utils.errors import InterruptedRun, UserError
from ssd.utils.logs import OneLine, StderrHandler
from ssd.utils.signals import StopSignals

log = logging.getLogger(__name__)


def main() -> None:
    credentials.guard()
    task, hydra = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    register()
    setup_globals()
    cfg = OmegaConf.merge(OmegaConf.structured(Config), literal(task))
    assert isinstance(cfg, DictConfig)
    # Jobs and writers ask it what was said, and what sweep they are in.
    schema = OmegaConf.structured(HydraConf)
    OmegaConf.set_struct(schema, False)
    HydraConfig.instance().set_config(OmegaConf.create({"hydra": OmegaConf.merge(schema, literal(hydra))}))
    info: Any = HydraConfig.get()
    configure_log(info.job_logging, info.verbose)
    if slots(cfg) > 1:
        _speak_among_others(info.job.num)
    folder = Path(info.runtime.output_dir)
    outcome = attempt(cfg, folder, Path(info.sweep.dir))
    outcome.write(folder)


def attempt(cfg: DictConfig, folder: Path, sweep: Path) -> Outcome:
    """Runs the job; whatever happens becomes its outcome."""
    begun = read(folder)
    try:
        with take(cfg, sweep, slots(cfg)) as own:
            value = jobs.run(own, folder)
        return replace(begun.ended(FINISHED), value=value, parameters=count_parameters(folder))
    except Pruned as verdict:
        log.info("pruned: %s", verdict)
        return replace(begun.ended(PRUNED, str(verdict)), parameters=count_parameters(folder))
    except KeyboardInterrupt:
        return begun.ended(INTERRUPTED, "interrupted")
    except InterruptedRun as error:
        return begun.ended(INTERRUPTED, str(error))
    except UserError as error:
        log.error("error: %s", error)
        return begun.ended(FAILED, credentials.scrubbed(str(error)))
    except Exception as error:
        log.exception("the job failed")
        return begun.ended(FAILED, credentials.scrubbed(f"{type(error).__name__}: {error}"))


def count_parameters(folder: Path) -> int | None:
    """Numbers in the trained network, batch statistics not counted; None where the job trained none."""
    if not (folder / "checkpoints").is_dir():
        return None
    from ssd.checkpoint.index import NAME
    from ssd.checkpoint.model import load_params

    if not (folder / "checkpoints" / NAME).is_file():
        return None
    return sum(array.size for array in load_params(folder)[0].values())


def _speak_among_others(number: int) -> None:
    """Several jobs share the terminal: each line says whose it is, and there are no progress bars."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, StderrHandler):
            handler.setFormatter(OneLine(f"#{number} %(message)s"))
    os.environ["TTY_COMPATIBLE"] = "0"  # as rich understands it


def _end_with_the_parent() -> None:
    while os.read(sys.stdin.fileno(), 64):
        if not StopSignals.come:  # a training that has had its own signal may be at its end already
            os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
