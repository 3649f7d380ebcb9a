"""What importing MXNet brings along."""

import subprocess
import sys

PROGRAM = """
import sys
from ssd.mxnet_compat import NEEDLESS, mx
print([name for name in NEEDLESS if name in sys.modules])
from scipy import sparse  # can be had afterwards
assert float(mx.nd.ones(2).sum().asscalar()) == 2.0
"""


def test_nothing_needless_is_imported_nor_kept_from_others():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr
