"""What a checkpoint says of a training's progress: any other value than those that are saved is refused."""

import json
import random

import numpy as np
import pytest

from ssd.config.parts import GuardConfig
from ssd.mxnet_compat import mx
from ssd.training.guards import Guards
from ssd.training.losses import StepLosses
from ssd.training.progress import Progress, count_of, real, unpack
from ssd.training.state import random_state, restore_random
from ssd.utils.errors import UserError


def test_progress_comes_back() -> None:
    progress = Progress(2, 25)
    progress.count(StepLosses(1.5, 2.0, 0.5, 1.0, 4.0), 16, 0.25)
    progress.count(StepLosses(float("nan"), 2.0, 0.5, 1.0, 4.0), 16, 0.25)
    saved = json.loads(json.dumps(progress.to_json()))
    back = Progress.from_json(saved)
    assert (back.epochs, back.step, back.whole.losses, back.whole.images) == (
        2,
        27,
        StepLosses(1.5, 2.0, 0.5, 1.0, 4.0),
        16,
    )
    assert back.recent.waited == 0.25


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["step"], -1), (["step"], 10**18), (["step"], 1.0), (["step"], True), (["epochs"], "x"), (["epochs"], 1e308),
        (["run", "seconds"], "x"), (["run", "seconds"], float("nan")), (["run", "seconds"], -1.0),
        (["whole", "images"], -5), (["whole", "losses"], []), (["whole", "losses"], {"anchors": "x"}),
        (["recent", "waited"], None), (["recent"], 3),
    ],
)  # fmt: skip
def test_damaged_progress(place: list[str], value: object) -> None:
    saved = Progress(2, 25).to_json()
    node = saved
    for name in place[:-1]:
        node = node[name]
    node[place[-1]] = value
    with pytest.raises((KeyError, TypeError, ValueError)):
        Progress.from_json(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [("losses", "abc"), ("losses", [None]), ("best", "x"), ("skipped", "x"), ("waited", -1), ("exploded", 1.5)],
)
def test_damaged_guards(key: str, value: object) -> None:
    made = GuardConfig(
        non_finite="stop", max_skipped=1, spike_factor=None, spike_steps=1, spike_window=5, patience=None,
        min_delta=0.0, max_hours=None,
    )  # fmt: skip
    guards = Guards(made, "map", str)
    state = guards.state_dict()
    guards.load_state_dict(state)
    with pytest.raises((KeyError, TypeError, ValueError)):
        guards.load_state_dict({**state, key: value})


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("numpy", 2, 2**31 - 1), ("numpy", 2, -1), ("numpy", 2, 10**20), ("numpy", 1, [1]), ("numpy", 1, [-1] * 624),
        ("numpy", 1, [10**30] * 624), ("numpy", 0, "PCG64"), ("numpy", 3, 7), ("numpy", 4, "x"),
        ("python", 1, [1] * 5), ("python", 1, [0] * 624 + [10**9]), ("python", 0, 99), ("python", 2, "x"),
    ],
)  # fmt: skip
def test_damaged_generators_stay_what_they_are(kind: str, place: int, value: object) -> None:
    before = random_state()
    damaged = json.loads(json.dumps(before))
    damaged[kind][place] = value
    with pytest.raises((KeyError, TypeError, ValueError)):
        restore_random(damaged)
    assert random_state()["numpy"] == before["numpy"]
    restore_random(json.loads(json.dumps(before)))
    drawn = random.random(), np.random.rand()
    restore_random(before)
    assert (random.random(), np.random.rand()) == drawn


def test_numbers() -> None:
    assert (count_of(3, 3), real(2), real(0.5)) == (3, 2.0, 0.5)
    for wrong in (4, -1, 1.0, True, "1", None):
        with pytest.raises(ValueError, match="number"):
            count_of(wrong, 3)
    for wrong in ("1", None, float("inf"), True):
        with pytest.raises(ValueError, match="number"):
            real(wrong)


@pytest.mark.parametrize("text", [b"[1]", b"7", b"null", b"{", b"[" * 100_000, b"\xff"])
def test_facts_that_are_none_are_refused(text: bytes) -> None:
    with pytest.raises(UserError, match="progress cannot be read"):
        unpack(mx.nd.array(np.frombuffer(text, np.uint8), dtype=np.uint8))
