"""Where a run comes from, as tags of whatever records it: code, data, machine, and the sweep it belongs to."""

import contextlib
import getpass
import json
import os
import platform
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ssd.config.commands import task_overrides
from ssd.config.overrides import COMMAND, key_of, swept_over
from ssd.config.paths import PACKAGE
from ssd.data.base import Sample
from ssd.data.datasets.fingerprint import fingerprints
from ssd.data.inspection.gate import LISTING
from ssd.data.inspection.problems import Problem
from ssd.mxnet_compat import mx
from ssd.tracking.events import Sweep
from ssd.utils.versions import installed

TOOL_SECONDS = 10  # a git or nvidia-smi that takes longer is done without
DISTRIBUTIONS = ("ssd", "mlflow", "tensorboardX")


def gather_provenance(
    cfg: DictConfig, splits: Mapping[str, Sequence[Sample]], skipped: Mapping[str, Sequence[Problem]]
) -> dict[str, str]:
    """Name -> text. splits: the samples that the run uses; skipped: why others were left out of them."""
    prints = fingerprints(splits, cfg.dataset.classes)
    about = {"dataset.name": str(cfg.dataset.name), "dataset.hash": prints.pop("")}
    for name, digest in prints.items():
        about |= {f"dataset.hash.{name}": digest, f"dataset.images.{name}": str(len(splits[name]))}
    for name, problems in skipped.items():
        about[f"dataset.skipped.{name}"] = f"{len({problem.file for problem in problems})} files, see {LISTING}"
    return {**code_state(PACKAGE), **about, **_environment(cfg.device)}


def code_state(package: Path) -> dict[str, str]:
    """git.commit, and git.dirty: "true" when files differ from it; {} where the package lies in no repository."""
    # An installed package may lie inside of somebody's repository without being part of it.
    if _output("git", "-C", str(package), "ls-files", "--error-unmatch", "run.py") is None:
        return {}
    commit = _output("git", "-C", str(package), "rev-parse", "HEAD")
    changed = _output("git", "-C", str(package), "status", "--porcelain", "--untracked-files=no")
    return {"git.commit": commit, "git.dirty": "true" if changed else "false"} if commit else {}


def _environment(device: DictConfig) -> dict[str, str]:
    found = {
        "command": shlex.join(["ssd", *_command()]),
        "host": socket.gethostname(),
        "system": platform.platform(),
        "device": _device(device),
        "python": platform.python_version(),
        "mxnet": mx.__version__,
        "numpy": np.__version__,
    }
    found |= {name: version for name in DISTRIBUTIONS if (version := installed(name))}
    with contextlib.suppress(KeyError, OSError, ImportError):  # a container whose user has no name
        found["user"] = getpass.getuser()
    return found


def _device(device: DictConfig) -> str:
    """ "cpu [0]: AMD EPYC 7B13", "gpu [0, 1]: NVIDIA H100"."""
    if device.name == "gpu":
        names = (_output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") or "").splitlines()
    else:
        cpuinfo = Path("/proc/cpuinfo")
        lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    kinds = ", ".join(dict.fromkeys(names)) or platform.machine()
    return f"{device.name} {list(device.ids)}: {kinds}"


def _output(*command: str) -> str | None:
    """What a program says; None if it is not there, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def sweep() -> Sweep | None:
    """The sweep that this job belongs to, if Hydra runs one."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    hydra = HydraConfig.get()
    parameters: Any = OmegaConf.to_container(hydra.sweeper.get("params") or OmegaConf.create({}))
    over = parameters | swept_over(_command())
    own = [override for override in task_overrides() if key_of(override) in over]
    return Sweep(Path(hydra.sweep.dir).resolve(), int(hydra.job.num), own, [f"{key}={over[key]}" for key in over])


def _command() -> list[str]:
    """The overrides of the command line, in a job's own process too."""
    return [str(override) for override in json.loads(os.environ.get(COMMAND, "[]"))]
