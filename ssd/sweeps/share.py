"""Jobs that run at the same time on one machine: each has its part of the GPUs and of the processor cores."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ssd.utils.atomic_files import try_lock
from ssd.utils.errors import UserError
from ssd.utils.process import cores_by_thread, physical_cores

FOLDER = ".places"
PAUSE = 0.2  # seconds


def slots(cfg: DictConfig) -> int:
    """How many jobs of the sweep share one machine at the same time: by Slurm each has its own, or a part of one."""
    launcher = HydraConfig.get().launcher
    return 1 if one_by_one(launcher) or launcher.get("cluster") == "slurm" else int(cfg.sweep.parallel)


def one_by_one(launcher: Mapping[str, Any]) -> bool:
    """Whether this hydra.launcher waits for each job before the next."""
    return bool(launcher["_target_"].endswith(".BasicLauncher"))


@contextmanager
def take(cfg: DictConfig, sweep: Path, count: int) -> Iterator[DictConfig]:
    """Takes one of `count` places on this machine, as long as the block or the process lasts.

    Gives cfg with its part of device.ids (GPUs only: on the CPU they are no hardware) and cuts this process's cores;
    threads follow from the cores unless device.threads names a number. Errors: UserError for fewer GPUs than places.
    """
    if count == 1:
        yield cfg
        return
    if cfg.device.name == "gpu" and len(cfg.device.ids) < count:
        raise UserError(
            f"sweep.parallel={count} but device.ids={list(cfg.device.ids)}: each job at a time needs a GPU of its own"
        )
    index, handle = _free_place(sweep / FOLDER, count)
    try:
        if cfg.device.name == "gpu":
            cfg = cast(DictConfig, OmegaConf.merge(cfg, {"device": {"ids": part(cfg.device.ids, index, count)}}))
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, [cpu for core in part(cores_by_thread(), index, count) for cpu in core])
            os.environ["OMP_NUM_THREADS"] = str(physical_cores())  # the launcher may have set its own guess
        yield cfg
    finally:
        os.close(handle)


def part(items: Sequence[Any], index: int, count: int) -> list[Any]:
    """The part number `index` of `count` of them, neighbors together; with fewer items than parts, one in turn."""
    if len(items) < count:
        return [items[index % len(items)]]
    return list(items[index * len(items) // count : (index + 1) * len(items) // count])


def _free_place(folder: Path, count: int) -> tuple[int, int]:
    """(number, file handle) of a place that nobody holds; waits for one. The lock goes with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for index in range(count):
            handle = try_lock(folder / f"{os.uname().nodename}-{index}")
            if handle is not None:
                return index, handle
        time.sleep(PAUSE)
