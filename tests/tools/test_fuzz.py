"""A few of the files of tools/stress/fuzz.py."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "stress" / "fuzz.py"


def test_damaged_files_of_every_kind_are_read_or_refused_in_one_line() -> None:
    command = [sys.executable, str(TOOL), "--count", "2", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert len(rows) == 32
    for kind, files, read, refused, wrong, *_ in rows:
        assert (files, wrong) == ("2", "0"), kind
        assert int(read) + int(refused) == 2
    assert sum(int(row[3]) for row in rows) > 25
