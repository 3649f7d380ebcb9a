import json
import math
from typing import Any

import pytest

from ssd.config.compose import compose
from ssd.config.parts import guard_config
from ssd.training.guards import Guards
from ssd.training.losses import StepLosses
from ssd.utils.errors import UserError

BAD = StepLosses(math.nan, 1, 0, 1, 1)


def guards(*overrides: str) -> Guards:
    groups = {"max_hours": "", "patience": "early_stopping.", "min_delta": "early_stopping."}
    cfg = compose([f"{groups.get(override.partition('=')[0], 'guard.')}{override}" for override in overrides])
    return Guards(guard_config(cfg), "val/map", lambda: "advice")


def loss(value: float) -> StepLosses:
    return StepLosses(value, 1, 0, 1, 1)


def judged(guard: Guards, losses: StepLosses) -> str | None:
    """As the loop does it: a step that is refused does not count."""
    return guard.refused(losses) or guard.count(losses)


def restored(guard: Guards, *overrides: str) -> Guards:
    fresh = guards(*overrides)
    fresh.load_state_dict(json.loads(json.dumps(guard.state_dict())))
    return fresh


def test_what_is_not_finite_stops() -> None:
    assert "the loss is not finite" in str(judged(guards(), BAD))
    assert "a gradient is not finite" in str(judged(guards(), StepLosses(1, 1, 1, 1, 1, gradients_finite=False)))
    assert judged(guards(), loss(3)) is None


def test_so_many_are_skipped_over_interruptions() -> None:
    overrides = ("non_finite=skip", "max_skipped=3")
    guard = guards(*overrides)
    assert [judged(guard, BAD), judged(guard, loss(1)), judged(guard, BAD)] == [None] * 3
    guard = restored(guard, *overrides)
    assert judged(guard, BAD) is None
    assert "3 steps were skipped before" in str(judged(guard, BAD))


def test_an_exploding_loss_stops_after_some_steps() -> None:
    overrides = ("loss_spike.factor=10", "loss_spike.steps=3", "loss_spike.window=8")
    guard = guards(*overrides)
    for value in (5.0, 4.0, 3.0, 4.0, 45.0, 45.0, 3.0, 45.0, 45.0):  # twice in a row is no explosion
        assert judged(guard, loss(value)) is None
    message = str(judged(restored(guard, *overrides), loss(50.0)))
    assert "the loss explodes: 50, more than 10 times its usual 4 for 3 steps" in message


def test_a_loss_that_falls_or_is_noisy_does_not_explode() -> None:
    guard = guards()
    assert not any(judged(guard, loss(1000 * 0.9**step * (1 + 10 * (step % 7 == 0)))) for step in range(300))
    off = guards("loss_spike.factor=null")
    assert not any(judged(off, loss(10.0**step)) for step in range(30))


def test_patience() -> None:
    guard = guards("patience=2", "min_delta=0.01")
    for value in (0.5, 0.505, None, 0.6, 0.6, math.nan):
        guard.validated(value)
        assert guard.ended(0) is None
    guard = restored(guard, "patience=2", "min_delta=0.01")
    guard.validated(0.605)
    assert "no better than 0.6000 for 2 validations" in str(guard.ended(0))
    assert restored(guard, "patience=5").ended(0) is None  # goes on with more of it


def test_time() -> None:
    guard = guards("max_hours=0.5")
    assert guard.out_of_time(1799) is None
    assert "max_hours=0.5" in str(guard.out_of_time(1800))
    assert "max_hours=0.5" in str(guard.ended(1800))
    assert guards().out_of_time(1e9) is None


@pytest.mark.parametrize(
    "overrides",
    [
        ["guard.non_finite=ignore"],
        ["guard.loss_spike.factor=1"],
        ["guard.loss_spike.steps=201"],
        ["early_stopping.patience=0"],
        ["max_hours=0"],
        ["checkpoint.keep.last=0"],
        ["checkpoint.every_minutes=0"],
        ["job=check", "check.overfit=0"],
        ["job=check", "check.steps=x"],
    ],
)
def test_values_that_make_no_sense(overrides: list[Any]) -> None:
    with pytest.raises(UserError, match=overrides[-1].split("=")[0]):
        compose(overrides)
