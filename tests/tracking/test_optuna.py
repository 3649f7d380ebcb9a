from pathlib import Path

import optuna
import pytest
from omegaconf import DictConfig, OmegaConf

from ssd.tracking.events import Events, Pruned, RunInfo
from ssd.tracking.optuna import TrialWriter, trial_writers

METRIC = "val/map_11pt"


@pytest.fixture
def settings(tmp_path: Path) -> DictConfig:
    """A study whose first trial has reached 0.5, 0.6, 0.7 and whose second one runs."""
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    first = study.ask()
    for epoch, value in enumerate((0.5, 0.6, 0.7), start=1):
        first.report(value, epoch)
    study.tell(first, 0.7)
    study.ask()
    pruner = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1, "n_warmup_steps": 2}
    return OmegaConf.create({"study_name": "s", "storage": storage, "pruner": pruner})


@pytest.fixture
def events(settings: DictConfig, tmp_path: Path) -> Events:
    events = Events({"study": TrialWriter(settings, 1, METRIC)})
    events.start(RunInfo("run", "train", {}, tmp_path, ["a"], 3, 1))
    return events


def test_a_trial_worse_than_the_median_is_ended(events: Events, settings: DictConfig) -> None:
    events.epoch(1, 1, {METRIC: 0.1})  # still warming up
    with pytest.raises(Pruned, match=r"map_11pt 0\.2000 after epoch 2 \(MedianPruner\)"), events:
        events.epoch(2, 2, {METRIC: 0.2})
    trial = optuna.load_study(study_name="s", storage=settings.storage).trials[1]
    assert trial.intermediate_values == {1: 0.1, 2: 0.2}


def test_a_better_one_goes_on(events: Events) -> None:
    for epoch, value in enumerate((0.5, 0.65, 0.9), start=1):
        events.epoch(epoch, epoch, {METRIC: value})


def test_epochs_without_a_number_are_passed_over(events: Events, settings: DictConfig) -> None:
    events.epoch(2, 2, {"train/loss": 1.0})
    events.epoch(3, 3, {METRIC: float("nan")})
    assert optuna.load_study(study_name="s", storage=settings.storage).trials[1].intermediate_values == {}


def test_a_run_of_its_own_reports_to_nobody() -> None:
    assert trial_writers(METRIC) == {}
