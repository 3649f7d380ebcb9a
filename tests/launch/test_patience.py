"""What counts as waiting, and when it is enough."""

import pytest

from ssd.launch import patience
from ssd.launch.patience import LONGEST_LOOK, Patience, Stopwatch


def test_the_time_in_which_this_process_was_stopped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    watch = Stopwatch()
    for now[0] in (1, 2, 3602, 3603):
        watch.look()
    assert watch.look() == 3 + LONGEST_LOOK


def test_reports_come_at_a_quarter_and_whenever_that_doubles() -> None:
    waiting = Patience({"patience_s": 8, "on_hung": "wait"})
    assert [second for second in range(40) if waiting.reports(second)] == [2, 4, 8, 16, 32]
    assert not waiting.is_over(1e9)


def test_patience_ends() -> None:
    waiting = Patience({"patience_s": 8, "on_hung": "save"})
    assert [waiting.is_over(second) for second in (7.9, 8, 9)] == [False, True, True]
