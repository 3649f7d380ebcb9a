"""The Optuna sweeper: values of the next jobs from what the ones before gave, in a study that survives a kill."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from hydra.plugins.launcher import Launcher
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import OptunaError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from ssd.config.credentials import scrubbed, whole
from ssd.config.overrides import current_overrides
from ssd.config.renamed import VALUES, current_group, current_key, silent
from ssd.config.targets import make
from ssd.runs.results import Conditions, measured_of, read_metrics, unlike
from ssd.sweeps.job import Sweep, end_if_asked
from ssd.sweeps.outcome import FINISHED, INTERRUPTED, PRUNED, RUNNING, read, read_all
from ssd.sweeps.share import one_by_one
from ssd.utils.atomic_files import try_file_lock
from ssd.utils.errors import UserError

log = logging.getLogger(__name__)

LOCK = ".lock"
SHOWN = 80  # characters of what a database holds in a message
FIXED = "fixed words"  # of the study: what all its trials share
MEASURED = "measured"  # of the study: how the value of its first trial was measured
STALE = "interrupted trials"  # of the study: numbers of those that were killed with the sweep
# Of the database, and what contents that Optuna never wrote end in.
FAILURES = (SQLAlchemyError, OptunaError)
DAMAGE = (*FAILURES, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ImportError)
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def search(config: DictConfig, launcher: Launcher, overrides: Sequence[str]) -> None:
    """Runs trials until `n_trials` have ended, those of earlier calls counted; see conf/hydra/sweeper/optuna.yaml.

    overrides: the command line; those that are no single values span the space. Errors: UserError when another process
    runs this sweep, or the study in its storage was begun with other overrides.
    """
    settings = config.hydra.sweeper
    sweep = Path(config.hydra.sweep.dir)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweep.mkdir(parents=True, exist_ok=True)
    held_sweep = try_file_lock(
        sweep / LOCK, str(sweep), "another process runs this sweep; give this one another study_name"
    )
    with held_sweep, _storage_works(settings.storage, FAILURES):
        space, fixed = split(overrides)
        with _storage_works(settings.storage, DAMAGE):
            study = open_study(settings, fixed)
            space = as_begun(study, space)
            close_interrupted(study, sweep)
            done = ended(study)
        if done:
            log.info("study %s goes on: %d of %d trials have ended", study.study_name, done, settings.n_trials)
        while (left := settings.n_trials - ended(study)) > 0:
            trials = [next_trial(study, settings, config.seed, space) for _ in range(min(left, _at_once(config)))]
            jobs = [[*trial_overrides(trial, space, settings.study_name), *fixed] for trial in trials]
            launcher.launch(jobs, initial_job_idx=trials[0].number)
            folders = {outcome.number: folder for folder, outcome in read_all(sweep).items()}
            for trial in trials:
                folder = folders.get(trial.number)
                if Sweep.ended_by is None or (folder and read(folder).state in (FINISHED, PRUNED)):
                    report_result(study, trial.number, folder)  # else the next call replaces it
            end_if_asked()


@contextmanager
def _storage_works(storage: str, failures: tuple[type[Exception], ...]) -> Iterator[None]:
    """Errors: UserError without the address, which may hold a password."""
    try:
        yield
    except failures as error:
        text = scrubbed(str(getattr(error, "orig", None) or error)).replace(storage, "…").replace(whole(storage), "…")
        reason = next(iter(text.splitlines()), "") or type(error).__name__
        raise UserError(
            f"hydra.sweeper.storage: cannot be used ({reason[:200]}); name a database that Optuna can write, or move a "
            "damaged file aside to begin a new study"
        ) from error


def split(overrides: Sequence[str]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """Search space and the overrides that are the same in all trials. Errors: UserError without any space."""
    space, values, deletions = create_params_from_overrides(list(overrides))
    if not space:
        raise UserError(
            "hydra/sweeper=optuna has nothing to search: give a key several values, e.g. "
            "'optimizer.learning_rate=tag(log,interval(0.0003,0.03))' or augment=mild,ssd"
        )
    return space, [f"{name}={value}" for name, value in values.items()] + deletions


def open_study(settings: DictConfig, fixed: list[str]) -> optuna.Study:
    """The study of this name in its storage, made if it does not exist. Errors: UserError for other fixed overrides."""
    study = optuna.create_study(
        study_name=settings.study_name, storage=whole(settings.storage), direction="maximize", load_if_exists=True
    )
    begun = study.user_attrs.get(FIXED)
    if begun is None:
        study.set_user_attr(FIXED, fixed)
    elif (begun := current_overrides(begun, silent)) != fixed:
        different = " ".join(sorted(set(begun) ^ set(fixed)))
        raise UserError(
            f"study {settings.study_name} was begun with other overrides ({different}); its trials would not compare: "
            "give this one another name, hydra.sweeper.study_name=…"
        )
    return study


def as_begun(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """The space in the names and values of the trials that are there, which an earlier version may have begun: Optuna
    learns only from trials that have the same ones."""
    names = {name for trial in study.get_trials(deepcopy=False) for name in trial.params}
    earlier = {current_key(current_group(name)): name for name in sorted(names)}
    return {earlier.get(key, key): _earlier_choices(earlier.get(key, key), part) for key, part in space.items()}


def _earlier_choices(name: str, distribution: BaseDistribution) -> BaseDistribution:
    values = {new: old for old, new in VALUES.get(name, {}).items()}
    if not values or not isinstance(distribution, CategoricalDistribution):
        return distribution
    return CategoricalDistribution([values.get(one, one) for one in distribution.choices])  # type: ignore[call-overload]


def close_interrupted(study: optuna.Study, sweep: Path) -> None:
    """Marks as failed the trials that were running when an earlier process of this sweep was killed."""
    numbers = [trial.number for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING])]
    for number in numbers:
        log.info("trial %d was interrupted: it counts as failed and is replaced", number)
        study.tell(number, state=TrialState.FAIL)
    if numbers:
        study.set_user_attr(STALE, [*study.user_attrs.get(STALE, []), *numbers])
    for folder, outcome in read_all(sweep).items():
        if outcome.state == RUNNING:
            outcome.ended(INTERRUPTED, "the sweep was killed").write(folder)


def ended(study: optuna.Study) -> int:
    """Trials that count: finished, pruned or failed by themselves."""
    interrupted = set(study.user_attrs.get(STALE, []))
    return sum(trial.number not in interrupted for trial in study.get_trials(deepcopy=False, states=ENDED))


def next_trial(
    study: optuna.Study, settings: DictConfig, seed: int, space: dict[str, BaseDistribution]
) -> optuna.trial.Trial:
    """The next trial. Its random numbers depend on the seed and its number alone, so that a study that was resumed
    proposes no value twice and what an uninterrupted one would have proposed."""
    number = len(study.get_trials(deepcopy=False))
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    study.sampler = make(settings.sampler, "hydra/sweeper", "hydra.sweeper.sampler", seed=own)
    try:
        return study.ask(fixed_distributions=space)
    except ValueError as error:  # Optuna's refusal of a categorical space that differs from the one before
        raise UserError(
            f"study {settings.study_name} was begun with another search space ({error}): "
            "give this one another name, hydra.sweeper.study_name=…"
        ) from error


def trial_overrides(trial: optuna.trial.Trial, space: Mapping[str, BaseDistribution], name: str) -> list[str]:
    """The values of a trial as overrides: of the keys that are searched, each with a value that its distribution has.

    Anybody may have put trials into the database: what a trial holds besides would be overrides that nobody typed.
    name: of the study. Errors: UserError for such a trial; the next call replaces it.
    """
    where = f"study {name}: trial {trial.number} in its storage"
    if strange := sorted(set(trial.params) - set(space)):
        raise UserError(
            f"{where} sets {strange[0][:SHOWN]!r}, which this sweep does not search; call again and the trial is "
            "replaced, or give this one another hydra.sweeper.study_name="
        )
    values = {key: _value_in(distribution, trial.params.get(key), key, where) for key, distribution in space.items()}
    return current_overrides([f"{key}={value}" for key, value in values.items()], silent)


def _value_in(distribution: BaseDistribution, value: Any, key: str, where: str) -> Any:
    """The value that a distribution has where a trial has `value`. Errors: UserError if there is none."""
    if isinstance(distribution, CategoricalDistribution):
        found = next((one for one in distribution.choices if type(one) is type(value) and one == value), None)
        inside = found is not None or (value is None and None in distribution.choices)
    else:
        kind = int if isinstance(distribution, IntDistribution) else float
        inside = isinstance(value, (int, float)) and distribution._contains(value) and kind(value) == value
        found = kind(value) if inside else None
    if not inside:
        raise UserError(
            f"{where} has {key}={str(value)[:SHOWN]!r}, which is outside of what this sweep searches; call again and "
            "the trial is replaced, or give this one another hydra.sweeper.study_name="
        )
    return found


def report_result(study: optuna.Study, number: int, folder: Path | None) -> None:
    """Closes a trial with what its job left in its folder; as failed, where its value does not compare with others."""
    outcome = read(folder) if folder else None
    if folder and outcome and outcome.state == FINISHED and outcome.value is not None:
        if different := _measured_otherwise(study, folder):
            log.warning(
                "trial %d counts as failed, its value does not compare with those before: %s", number, different
            )
            study.tell(number, state=TrialState.FAIL)
        else:
            study.tell(number, outcome.value)
    elif outcome and outcome.state == PRUNED:
        study.tell(number, state=TrialState.PRUNED)
    else:
        study.tell(number, state=TrialState.FAIL)


def _measured_otherwise(study: optuna.Study, folder: Path) -> str | None:
    """What differs from how the study's first value was measured; that is noted in the study."""
    metrics = read_metrics(folder)
    how = measured_of(metrics).get(str(metrics.get("split")))
    if how is None:
        return None
    first = study.user_attrs.get(MEASURED)
    if first is None:
        study.set_user_attr(MEASURED, how.to_json())
        return None
    return unlike([Conditions.from_json(first), how])


def _at_once(config: DictConfig) -> int:
    """Trials that are asked for together. One that is launched alone is, so that it learns from all before it."""
    return 1 if one_by_one(config.hydra.launcher) else int(config.sweep.parallel)
