"""Studies with jobs that are only pretended."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from ssd.runs.results import Conditions, Results
from ssd.sweeps.outcome import FAILED, FINISHED, PRUNED, Outcome, read_all
from ssd.sweeps.study import search
from ssd.utils.errors import UserError

SPACE = "optimizer.learning_rate=tag(log,interval(0.001,0.1))"


class Pretend:
    """A launcher whose jobs end as `states` says, over and over; it stops like a killed sweep where there is None."""

    def __init__(self, sweep: Path, states: Sequence[str | None]) -> None:
        self.sweep = sweep
        self.states = states
        self.overrides: list[list[str]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            state = self.states[len(self.overrides) % len(self.states)]
            self.overrides.append(list(overrides))
            outcome = Outcome(number, list(overrides))
            outcome.write(self.sweep / f"{number}_job")
            if state is None:
                raise KeyboardInterrupt
            rate = float(overrides[0].split("=")[1])
            replace(outcome.ended(state, "why"), value=rate if state == FINISHED else None).write(
                self.sweep / f"{number}_job"
            )
        return []


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Pretend]:
    """run(states, n_trials, overrides…) searches in tmp_path; a second call goes on."""

    def go(
        states: Sequence[str | None],
        n_trials: int = 4,
        seed: int = 0,
        overrides: Sequence[str] = (SPACE, "epochs=2"),
        parallel: int = 1,
        folder: Path = tmp_path,
    ) -> Pretend:
        launcher = Pretend(folder, states)
        target = "x.Joblib" if parallel > 1 else "x.BasicLauncher"
        search(config(folder, n_trials, seed, target, parallel), launcher, overrides)  # type: ignore[arg-type]
        return launcher

    return go


def config(folder: Path, n_trials: int, seed: int, launcher: str, parallel: int) -> DictConfig:
    sweeper = {"study_name": "s", "storage": f"sqlite:///{folder}/study.db", "n_trials": n_trials,
               "sampler": {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 3}}  # fmt: skip
    hydra = {"sweep": {"dir": str(folder)}, "sweeper": sweeper, "launcher": {"_target_": launcher}}
    return OmegaConf.create({"seed": seed, "sweep": {"parallel": parallel}, "hydra": hydra})


def study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/study.db")


def states(folder: Path) -> list[TrialState]:
    return [trial.state for trial in study(folder).trials]


def test_trials_end_as_their_jobs_did(run: Callable[..., Pretend], tmp_path: Path) -> None:
    launcher = run([FINISHED, PRUNED, FAILED, FINISHED])
    assert states(tmp_path) == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE]
    assert all(overrides[1] == "epochs=2" for overrides in launcher.overrides)
    assert study(tmp_path).best_value == max(float(launcher.overrides[at][0].split("=")[1]) for at in (0, 3))


def test_a_killed_study_goes_on_and_proposes_nothing_twice(run: Callable[..., Pretend], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run([FINISHED, FINISHED, None], n_trials=5)
    assert states(tmp_path)[2] == TrialState.RUNNING
    later = run([FINISHED], n_trials=5)
    assert len(later.overrides) == 3  # two had finished; the interrupted one does not count
    assert states(tmp_path) == [TrialState.COMPLETE] * 2 + [TrialState.FAIL] + [TrialState.COMPLETE] * 3
    rates = [trial.params["optimizer.learning_rate"] for trial in study(tmp_path).trials]
    assert len(set(rates)) == 6
    assert [outcome.reason for outcome in read_all(tmp_path).values()][2] == "the sweep was killed"
    assert not run([FINISHED], n_trials=5).overrides  # nothing is left to do


def test_the_seed_decides_the_proposals_and_a_stop_changes_none(run: Callable[..., Pretend], tmp_path: Path) -> None:
    def proposals(name: str, seed: int, *n_trials: int) -> list[list[str]]:
        (tmp_path / name).mkdir()
        return [overrides for n in n_trials for overrides in run([FINISHED], n, seed, folder=tmp_path / name).overrides]

    whole = proposals("whole", 0, 6)
    assert proposals("again", 0, 6) == whole
    assert proposals("stopped", 0, 2, 4, 6) == whole
    assert proposals("other", 1, 6) != whole


def test_trials_are_asked_for_as_many_as_run_at_once(run: Callable[..., Pretend], tmp_path: Path) -> None:
    assert len(run([FINISHED], n_trials=5, parallel=2).overrides) == 5
    assert len(states(tmp_path)) == 5


@pytest.mark.parametrize("damage", ["no database", "a torn database", "another schema", "another program's contents"])
def test_a_damaged_study_is_one_line(damage: str, run: Callable[..., Pretend], tmp_path: Path) -> None:
    run([FINISHED], n_trials=2)
    file = tmp_path / "study.db"
    match damage:
        case "no database":
            file.write_bytes(bytes(range(256)) * 16)
        case "a torn database":
            file.write_bytes(file.read_bytes()[:100] + b"\xff" * 3000)
        case "another schema":
            with closing(sqlite3.connect(file)) as base, base:
                base.executescript("DROP TABLE studies; CREATE TABLE studies (x);")
        case _:
            with closing(sqlite3.connect(file)) as base, base:
                base.execute("UPDATE trial_params SET distribution_json = '[]'")
                base.execute("UPDATE study_user_attributes SET value_json = '{'")
    with pytest.raises(UserError, match="^hydra.sweeper.storage: cannot be used ") as error:
        run([FINISHED], n_trials=4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("storage", ["sqlite:////dev/null/x.db", "sqlite:///" + "n" * 300, "foo://bob:pw-s3cr3t@bar",
                                     "pw-s3cr3t", "mysql+nothing://bob:pw-s3cr3t@localhost/x"])  # fmt: skip
def test_a_storage_that_cannot_be_used_is_one_line_without_its_password(storage: str, tmp_path: Path) -> None:
    settings = config(tmp_path, 1, 0, "x.BasicLauncher", 1)
    settings.hydra.sweeper.storage = storage
    with pytest.raises(UserError, match="^hydra.sweeper.storage: cannot be used ") as error:
        search(settings, Pretend(tmp_path, [FINISHED]), (SPACE,))  # type: ignore[arg-type]
    assert "s3cr3t" not in str(error.value)
    assert "\n" not in str(error.value)


def test_choices_of_groups_keep_their_quotes(run: Callable[..., Pretend]) -> None:
    launcher = run([FINISHED], n_trials=3, overrides=[SPACE, "data_shape='128','256'", "logger=[]"])
    assert {overrides[1] for overrides in launcher.overrides} <= {"data_shape='128'", "data_shape='256'"}
    assert launcher.overrides[0][2] == "logger=[]"


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["epochs=2"], "nothing to search"),
        ([SPACE, "epochs=3"], r"epochs=2.*study_name"),
        ([SPACE, "epochs=2", "augment=mild,ssd"], ""),  # a dimension more is Optuna's to handle
    ],
)
def test_another_study_of_the_same_name_is_refused(
    overrides: list[str], part: str, run: Callable[..., Pretend]
) -> None:
    run([FINISHED], n_trials=1)
    if part:
        with pytest.raises(UserError, match=part):
            run([FINISHED], n_trials=2, overrides=overrides)
    else:
        run([FINISHED], n_trials=2, overrides=overrides)


def test_a_study_of_an_earlier_version_goes_on(run: Callable[..., Pretend], tmp_path: Path) -> None:
    study = optuna.create_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db", direction="maximize")
    study.set_user_attr("fixed words", ["detection.keep=50"])
    choices = CategoricalDistribution(("learn", "frozen"))
    space = {"detection.nms": FloatDistribution(0.3, 0.6), "init.statistics": choices}
    for _ in range(2):
        study.tell(study.ask(space), 0.5)
    overrides = [
        "detection.nms_threshold=interval(0.3,0.6)",
        "init.freeze_bn=false,true",
        "detection.max_detections=50",
    ]
    done = run([FINISHED], n_trials=4, overrides=overrides)
    assert len(done.overrides) == 2
    for nms, bn, kept in done.overrides:
        assert nms.startswith("detection.nms_threshold=0.")
        assert bn in ("init.freeze_bn=true", "init.freeze_bn=false")
        assert kept == "detection.max_detections=50"
    again = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db")
    assert [set(trial.params) for trial in again.trials] == [{"detection.nms", "init.statistics"}] * 4


def test_other_choices_of_one_dimension_are_refused(run: Callable[..., Pretend]) -> None:
    run([FINISHED], n_trials=1, overrides=[SPACE, "augment=mild,ssd"])
    with pytest.raises(UserError, match="another search space"):
        run([FINISHED], n_trials=2, overrides=[SPACE, "augment=mild,none"])


def test_one_process_at_a_time(run: Callable[..., Pretend], tmp_path: Path) -> None:
    import fcntl

    with open(tmp_path / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"):
            run([FINISHED])


def test_a_value_that_was_measured_otherwise_does_not_count(
    run: Callable[..., Pretend], tmp_path: Path, caplog
) -> None:
    conditions = Conditions("pets", "val", 90, 200, "0f", 0.5, None)
    ways = iter([conditions, replace(conditions, iou=0.3), conditions, conditions])
    launch = Pretend.launch

    def measured(self: Pretend, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        found = launch(self, job_overrides, initial_job_idx)
        results = Results("finished", values={"val/map_11pt": 0.5}, measured={"val": next(ways)})
        text = json.dumps(results.to_json("train"))
        (self.sweep / f"{initial_job_idx}_job" / "metrics.json").write_text(text)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pretend, "launch", measured)
        run([FINISHED], 4)
    states = [trial.state for trial in study(tmp_path).get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    line = "trial 1 counts as failed, its value does not compare with those before: metric.iou (0.3, 0.5)"
    assert line in caplog.messages


def planted(folder: Path, params: dict[str, Any], choices: dict[str, Any] | None = None) -> None:
    """A study whose storage holds a trial that waits, with these values and the distributions of a stranger."""
    begun = optuna.create_study(study_name="s", storage=f"sqlite:///{folder}/study.db", direction="maximize")
    distributions = {
        key: CategoricalDistribution((value,)) if isinstance(value, str) else FloatDistribution(1e-9, 1e9, log=True)
        for key, value in params.items()
    }
    waiting = FrozenTrial(number=-1, trial_id=-1, state=TrialState.WAITING, value=None, values=None,
                          datetime_start=None, datetime_complete=None, params=params,
                          distributions=distributions, user_attrs={}, system_attrs={},
                          intermediate_values={})  # fmt: skip
    begun._storage.create_new_trial(begun._study_id, template_trial=waiting)


@pytest.mark.parametrize(
    "params",
    [
        {"+hydra.job_logging.handlers.evil": "{\\\\(\\\\): os.getcwd}"},
        {"hydra.sweep.subdir": "elsewhere"},
        {"optimizer.learning_rate": 0.01, "training.records": "elsewhere"},
        {"optimizer.learning_rate": 7.0},
        {"optimizer.learning_rate": 1e-6},
    ],
)
def test_a_trial_in_the_storage_sets_nothing_but_what_is_searched(
    run: Callable[..., Pretend], tmp_path: Path, params: dict[str, Any]
) -> None:
    planted(tmp_path, params)
    with pytest.raises(UserError, match="trial 0 in its storage"):
        run([FINISHED], n_trials=1)
    launcher = run([FINISHED], n_trials=1)  # the trial is closed and replaced
    assert [overrides[0].partition("=")[0] for overrides in launcher.overrides] == ["optimizer.learning_rate"]
    assert all(
        0.001 <= float(overrides[0].partition("=")[2]) <= 0.1 and len(overrides) == 2
        for overrides in launcher.overrides
    )


@pytest.mark.parametrize("value", [7.0, float("nan"), float("inf"), "0.01", True, "0.01 epochs=9"])
def test_an_enqueued_trial_stays_inside_the_space(run: Callable[..., Pretend], tmp_path: Path, value: Any) -> None:
    begun = optuna.create_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db", direction="maximize")
    begun.enqueue_trial({"optimizer.learning_rate": value})
    try:
        launcher = run([FINISHED], n_trials=1)
    except UserError:
        return
    assert 0.001 <= float(launcher.overrides[0][0].partition("=")[2]) <= 0.1


def test_an_enqueued_choice_is_one_of_the_space(run: Callable[..., Pretend], tmp_path: Path) -> None:
    begun = optuna.create_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db", direction="maximize")
    begun.enqueue_trial({"optimizer.learning_rate": 0.02, "augment": "ssd"})
    overrides = [SPACE, "augment=mild,ssd"]
    assert set(run([FINISHED], n_trials=1, overrides=overrides).overrides[0]) == {
        "optimizer.learning_rate=0.02",
        "augment=ssd",
    }
    study(tmp_path).enqueue_trial({"optimizer.learning_rate": 0.02, "augment": "ssd,epochs=9"})
    with pytest.raises(UserError):
        run([FINISHED], n_trials=2, overrides=overrides)
