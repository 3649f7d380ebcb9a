import subprocess
import sys

import pytest

from ssd.mxnet_compat import mx
from ssd.training.rescue import rescued
from ssd.utils.errors import UserError


class Training:
    resumable = True

    def rescue(self) -> int:
        return 7


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread"), mx.base.MXNetError("x\nstd::bad_alloc")]
)
def test_memory_that_is_short_is_one_line(error: Exception) -> None:
    message = r"memory is exhausted .*saved after step 7; go on with: again"
    with pytest.raises(UserError, match=message), rescued(Training(), lambda: "again"):
        raise error


def test_another_runtime_error_keeps_its_type() -> None:
    with pytest.raises(RuntimeError, match="boom"), rescued(Training(), lambda: "again"):
        raise RuntimeError("boom")


FULL = """
import mmap, resource, sys
from ssd.training.rescue import RESERVE, rescued

class Training:
    resumable = True

    def rescue(self):
        self.copy = mmap.mmap(-1, RESERVE - (8 << 20))
        return 7

def step():
    local = mmap.mmap(-1, 16 << 20)
    raise_when_full()

def raise_when_full():
    try:
        while True:
            taken.append(mmap.mmap(-1, 1 << 20))
    except OSError:
        raise MemoryError from None

taken = []
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (400 << 20),) * 2)
try:
    with rescued(Training(), lambda: "again"):
        step()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_saving_has_memory_where_all_of_it_is_taken() -> None:
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout == "UserError memory is exhausted (MemoryError); saved after step 7; go on with: again\n"


def test_a_training_goes_on_without_a_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd.training.rescue.RESERVE", 1 << 62)
    with pytest.raises(UserError, match="saved after step 7"), rescued(Training(), lambda: "again"):
        raise MemoryError
