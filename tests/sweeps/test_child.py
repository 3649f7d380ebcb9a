from pathlib import Path

import pytest

from ssd import jobs
from ssd.config.compose import compose
from ssd.sweeps import child
from ssd.sweeps.outcome import Outcome
from ssd.tracking.events import Pruned
from ssd.utils.errors import UserError


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (None, "finished", ""),
        (UserError("wrong\n overrides"), "failed", "wrong overrides"),
        (ValueError("a bug"), "failed", "ValueError: a bug"),
        (Pruned("no hope"), "pruned", "no hope"),
        (KeyboardInterrupt(), "interrupted", "interrupted"),
    ],
)
def test_whatever_happens_becomes_the_outcome(
    error: BaseException | None, state: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(cfg: object, folder: Path) -> float:
        if error:
            raise error
        return 0.25

    monkeypatch.setattr(jobs, "run", run)
    monkeypatch.setattr(child, "slots", lambda cfg: 1)
    Outcome(4, ["a=1"]).write(tmp_path)
    outcome = child.attempt(compose(), tmp_path, tmp_path)
    assert (outcome.number, outcome.state, outcome.reason) == (4, state, reason)
    assert outcome.value == (None if error else 0.25)


def test_a_job_without_a_checkpoint_has_no_parameters(tmp_path: Path) -> None:
    assert child.count_parameters(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    assert child.count_parameters(tmp_path) is None
