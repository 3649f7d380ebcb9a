"""How processes end, and the time that is waited for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from ssd.utils import process
from ssd.utils.process import LONGEST_LOOK, Stopwatch, describe_exit

ORPHAN = """

def child(path):
    while os.getppid() == multiprocessing.parent_process().pid:
        time.sleep(0.01)
    end_with_parent()
    open(path, "w").close()

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=child, args=(sys.argv[1],)).start()
    os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_a_process_whose_parent_is_gone_already_ends(tmp_path: Path) -> None:
    (tmp_path / "orphan.py").write_text(ORPHAN)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "orphan.py"), str(tmp_path / "alive")], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.read()  # until the child, which shares it, has ended
    assert not (tmp_path / "alive").exists()


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
