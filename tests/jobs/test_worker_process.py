"""The process of a worker or server: what it must set before MXNet is imported."""

import subprocess
import sys


def test_mxnet_is_not_imported_before_threads_and_roles_are_set() -> None:
    code = "import sys, ssd.jobs.worker_process; print('mxnet' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
