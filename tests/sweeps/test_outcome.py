import json
from pathlib import Path

import pytest

from ssd.sweeps.outcome import FAILED, FINISHED, RUNNING, Outcome, close_lost, read, read_all
from ssd.utils.errors import UserError


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    outcome = Outcome(3, ["a=1", "b='x y'"], FINISHED, value=0.5, seconds=1.5, parameters=7)
    outcome.write(tmp_path / "job")
    assert read(tmp_path / "job") == outcome
    Outcome(0, [], FINISHED, value=float("nan")).write(tmp_path)
    assert read(tmp_path).value is None


def test_reasons_are_one_short_line() -> None:
    ended = Outcome(0, []).ended(FAILED, "first\n   second " + "x" * 1000)
    assert ended.reason.startswith("first second x")
    assert len(ended.reason) == 300


def test_jobs_of_a_sweep_come_by_their_number(tmp_path: Path) -> None:
    for number in (10, 9, 0):
        Outcome(number, []).write(tmp_path / f"{number}_run")
    assert [outcome.number for outcome in read_all(tmp_path).values()] == [0, 9, 10]


def test_lost_jobs_are_closed_once(tmp_path: Path) -> None:
    Outcome(0, ["a=1"]).write(tmp_path / "0_run")
    close_lost(tmp_path, 0, ["a=1"], "gone")
    close_lost(tmp_path, 0, ["a=1"], "again")
    close_lost(tmp_path, 1, ["a=2"], "never started")
    assert [(outcome.state, outcome.reason) for outcome in read_all(tmp_path).values()] == [
        (FAILED, "gone"), (FAILED, "never started")]  # fmt: skip


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"number": 1, "words": [], "surprise": 1}'])
def test_a_file_that_is_none_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(UserError, match=r"job\.json"):
        read(tmp_path)


def test_a_new_outcome_runs() -> None:
    assert Outcome(0, []).state == RUNNING


@pytest.mark.parametrize("change", [
    {"number": "1"}, {"number": None}, {"words": "epochs=1"}, {"words": [1]}, {"state": "odd"}, {"reason": None},
    {"value": "0.5"}, {"value": [1]}, {"seconds": True}, {"parameters": 10**400},
])  # fmt: skip
def test_values_of_another_kind_are_told(change: dict, tmp_path: Path) -> None:
    Outcome(3, ["a=1"], FINISHED, value=0.5).write(tmp_path)
    content = json.loads((tmp_path / "job.json").read_text())
    (tmp_path / "job.json").write_text(json.dumps(content | change))
    with pytest.raises(UserError, match="job.json: cannot be read"):
        read(tmp_path)
