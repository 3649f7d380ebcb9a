"""A few of the kills of tools/stress/kill.py."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train", "loaders", "prepare", "deploy"])
def test_killed_runs_end_as_if_nothing_had_happened(kind: str) -> None:
    command = [sys.executable, str(ROOT / "tools" / "stress" / "kill.py"), "3", "--seed", "1", "--kind", kind]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"3 kills, \d+ runs, all as if nothing had happened", done.stdout)
