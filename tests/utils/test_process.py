"""How processes end, and the time that is waited for them."""

import pytest

from ssd.utils import process
from ssd.utils.process import LONGEST_LOOK, Stopwatch, describe_exit


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "ended with exit code 0"),
        (1, "ended with exit code 1"),
        (-9, "killed by SIGKILL (out of memory?)"),
        (-11, "killed by SIGSEGV"),
        (-40, "killed by signal 40"),
    ],
)
def test_an_exit_code_says_how_a_process_ended(code: int, text: str) -> None:
    assert describe_exit(code) == text


def test_the_time_in_which_this_process_was_stopped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    watch = Stopwatch()
    for now[0] in (1, 2, 3602, 3603):
        watch.look()
    assert watch.look() == 3 + LONGEST_LOOK
