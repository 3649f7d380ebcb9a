import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.config.compose import compose
from ssd.config.parts import ScheduleConfig, trainer_config
from ssd.config.validate import SCHEDULES
from ssd.training.schedules import POLICIES, Schedule
from ssd.utils.errors import UserError


def rates(overrides: list[str], base: float, total: int) -> list[float]:
    schedule = Schedule(trainer_config(compose(overrides)).schedule, base, total)
    return [schedule(update) for update in range(1, total + 1)]


def test_step_multiplies_at_its_shares_of_the_run() -> None:
    got = rates(["schedule=step", "schedule.milestones=[0.5,0.75]", "schedule.factor=0.1"], 1.0, 100)
    assert got == pytest.approx([1.0] * 50 + [0.1] * 25 + [0.01] * 25)


def test_cosine_goes_from_base_to_final() -> None:
    got = rates(["schedule=cosine", "schedule.warmup=0", "schedule.final=0.1"], 2.0, 1000)
    assert got[0] == 2.0
    assert got[500] == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert got[-1] == pytest.approx(0.2, rel=1e-3)
    assert all(later <= earlier for earlier, later in zip(got, got[1:], strict=False))


def test_warmup_rises_linearly_to_the_policy() -> None:
    got = rates(["schedule=constant", "schedule.warmup=0.1"], 1.0, 100)
    assert got[:11] == pytest.approx([0.1 * k for k in range(1, 11)] + [1.0])


@given(st.sampled_from(["constant", "step", "cosine"]), st.integers(1, 500), st.floats(0, 1))
def test_rates_are_finite_and_never_above_the_base(name: str, total: int, warmup: float) -> None:
    options = {"milestones": [0.3], "factor": 0.1, "final": 0.0}
    schedule = Schedule(ScheduleConfig(name, warmup, {key: options[key] for key in SCHEDULES[name]}), 1.0, total)
    for update in range(1, total + 2):
        assert 0 <= schedule(update) <= 1
        assert math.isfinite(schedule(update))


def test_every_policy_is_known_to_the_validation() -> None:
    assert POLICIES.keys() == SCHEDULES.keys()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule=step", "schedule.milestones=[80,160]"], "schedule.milestones=80: expected a fraction of the run"),
        (["schedule.warmup=500"], "schedule.warmup=500: expected a fraction of the run"),
        (["schedule.name=linear"], "schedule.name=linear: expected constant or step or cosine"),
        (["schedule.name=step"], "schedule.name=step: needs milestones"),
        (["schedule=constant", "schedule.name=cosine"], "schedule.name=cosine: needs final"),
        (["~schedule.warmup"], "schedule: needs warmup"),
        (["~optimizer.learning_rate"], "optimizer: needs learning_rate"),
        (["~optimizer.name"], "optimizer: needs name"),
    ],
)
def test_what_no_schedule_can_use_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        compose(overrides)
