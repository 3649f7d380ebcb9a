"""A training as a trial of an Optuna study: tells the study how each epoch went, and asks whether to go on."""

import math
from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig

from ssd.config.credentials import whole
from ssd.config.parts import plain
from ssd.config.targets import make
from ssd.tracking.events import Pruned, RunInfo, Values, Writer


class TrialWriter(Writer):
    """Reports `metric` after every epoch that measured it; raises Pruned when the study's pruner sees no hope."""

    def __init__(self, settings: Mapping[str, Any], number: int, metric: str) -> None:
        """settings: the keys of hydra.sweeper, see conf/hydra/sweeper/optuna.yaml; number: of the trial."""
        self.settings = settings
        self.number = number
        self.metric = metric

    def start(self, run: RunInfo) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.pruner: Any = make(self.settings["pruner"], "hydra/sweeper", "hydra.sweeper.pruner")
        study = optuna.load_study(
            study_name=self.settings["study_name"],
            storage=whole(self.settings["storage"]),
            sampler=optuna.samplers.RandomSampler(),  # never asked here: the sweep has chosen the values
            pruner=self.pruner,
        )
        self.trial = optuna.Trial(study, study.get_trials(deepcopy=False)[self.number]._trial_id)

    def epoch(self, epoch: int, step: int, values: Values) -> None:
        value = values.get(self.metric)
        if value is None or not math.isfinite(value):
            return
        self.trial.report(value, epoch)
        if self.trial.should_prune():
            others = type(self.pruner).__name__
            raise Pruned(f"{self.metric} {value:.4f} after epoch {epoch} ({others})")


def trial_writers(metric: str) -> dict[str, Writer]:
    """The writer of a run that is a trial of a study with a pruner; none for other runs."""
    if not HydraConfig.initialized():
        return {}
    hydra = HydraConfig.get()
    if not (hydra.sweeper or {}).get("pruner") or hydra.mode is None or hydra.mode.name != "MULTIRUN":
        return {}
    return {"study": TrialWriter(plain(hydra.sweeper), hydra.job.num, metric)}
