"""Sweepers and launchers of our own, where Hydra looks for them: see conf/hydra/sweeper and conf/hydra/launcher.

Hydra imports this at every start, so it imports nothing heavy.
"""

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

# Choices whose configuration is in conf/hydra, not in the packages that the launchers come from (Hydra imports those
# before this one): two of one name are an error.
OURS = {"launcher": ("joblib", "submitit_local", "submitit_slurm"), "sweeper": ("optuna",)}
for _group, _names in OURS.items():
    for _name in _names:
        ConfigStore.instance().repo.get("hydra", {}).get(_group, {}).pop(f"{_name}.yaml", None)


class OptunaSweeper(Sweeper):
    """hydra/sweeper=optuna. Its options are read where they are used, ssd/sweeps/study.py."""

    def __init__(
        self, study_name: str, storage: str, n_trials: int, sampler: DictConfig, pruner: DictConfig | None,
        params: dict[str, str] | None,
    ) -> None:  # fmt: skip
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from ssd.sweeps.study import search

        assert self.config
        assert self.launcher
        search(self.config, self.launcher, [*(f"{key}={value}" for key, value in self.params.items()), *arguments])


class PerJobSubmitit(Launcher):
    """Submits every job by itself. Hydra's own launcher submits them as one array, and gives up on all when the first
    one's time is over, or its machine is gone."""

    def __init__(self, cluster: str, at_once: int, **options: Any) -> None:
        """options: of Hydra's launcher for that cluster, local or slurm."""
        self.launcher = _submitit_launcher(cluster)(**options)
        self.at_once = at_once

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.sweep = Path(config.hydra.sweep.dir)
        self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # the jobs find what this process finds
        returns = [JobReturn() for _ in job_overrides]
        free = threading.Semaphore(self.at_once)

        def launch_one(index: int) -> None:
            with free:
                returns[index] = self._one(list(job_overrides[index]), initial_job_idx + index)

        # Daemons, so that Ctrl-C need not wait for what runs elsewhere.
        threads = [threading.Thread(target=launch_one, args=(index,), daemon=True) for index in range(len(returns))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return returns

    def _one(self, overrides: list[str], number: int) -> JobReturn:
        from ssd.sweeps.outcome import close_lost

        try:
            done: JobReturn = self.launcher.launch([overrides], number)[0]
            return done
        except Exception as error:
            close_lost(self.sweep, number, overrides, f"lost by submitit: {error}")
            lost = JobReturn()
            lost.overrides, lost.status = overrides, JobStatus.COMPLETED  # what went wrong is in its job.json
            return lost


def _submitit_launcher(cluster: str) -> type[Launcher]:
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher, SlurmLauncher

    return {"local": LocalLauncher, "slurm": SlurmLauncher}[cluster]
