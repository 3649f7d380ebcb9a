"""Cores, and the end of processes."""

import subprocess
import sys
from pathlib import Path

import pytest

ORPHAN = """
import multiprocessing, os, sys, time
from ssd.utils.cpu import end_with_parent

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
