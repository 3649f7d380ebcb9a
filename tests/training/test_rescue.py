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
