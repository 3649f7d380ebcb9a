"""Files of arrays: what MXNet writes is read, and what would end the process is not given to it."""

import contextlib
import logging
import os
import random
from pathlib import Path
from struct import pack

import numpy as np
import pytest

from ssd.checkpoint.model import load_params
from ssd.checkpoint.param_file import read_arrays
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
CPU = (1, 0)


def array(shape=(2,), kind=0, magic=V2, storage=0, device=CPU, values=None) -> bytes:
    """One array as MXNet writes it; magic None: as it did before it wrote one."""
    values = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).tobytes() if values is None else values
    head = b"" if magic is None else pack("<I", magic)
    head += pack("<i", storage) if magic in (V2, V3) else b""
    return head + pack(f"<i{len(shape)}{'I' if magic is None else 'q'}iii", len(shape), *shape, *device, kind) + values


def file(*arrays: bytes, names=(b"arg:a",), count=None, begins=0x112, reserved=0) -> bytes:
    count = len(arrays) if count is None else count
    reported = b"".join(pack("<Q", len(name)) + name for name in names)
    return pack("<QQQ", begins, reserved, count) + b"".join(arrays) + pack("<Q", len(names)) + reported


def written(folder: Path, data: bytes) -> Path:
    path = folder / "a-0001.params"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "uint8", "int32", "int8", "int64"])
def test_what_mxnet_writes(kind, tmp_path) -> None:
    path = tmp_path / "a.params"
    arrays = {
        "arg:ä": mx.nd.array(np.arange(6).reshape(1, 2, 3), dtype=kind),
        "aux:b": mx.nd.ones(3),
        "c": mx.nd.ones(1),
    }
    mx.nd.save(str(path), arrays)
    read = read_arrays(path)
    assert list(read) == list(arrays)
    for name, expected in arrays.items():
        assert read[name].dtype == expected.dtype
        np.testing.assert_array_equal(read[name].asnumpy(), expected.asnumpy())
    mx.nd.save(str(path), [mx.nd.ones(1)])
    assert read_arrays(path) == {}


@pytest.mark.parametrize("magic", [None, V1, V2])
def test_forms_of_earlier_versions(magic, tmp_path) -> None:
    path = written(tmp_path, file(array((2, 3), magic=magic), array((1,), magic=magic), names=[b"arg:a", b"aux:b"]))
    args, aux = load_params(path)
    np.testing.assert_array_equal(args["a"].asnumpy(), [[1, 2, 3], [4, 5, 6]])
    assert aux["b"].shape == (1,)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "ends too early"),
        (file(array(), begins=0x113), "does not begin as one does"),
        (file(array(), reserved=1), "second integer"),
        (file(array(), count=16_700_000), "claims 16700000 arrays"),
        (file(array(), count=2), "ends too early|unknown|dimensions"),
        (file(array()[:8] + pack("<i", -1) + array()[12:]), "-1 dimensions"),
        (file(array(()), names=[b"arg:a"]), "0 dimensions"),
        (file(array((1,) * 17)), "17 dimensions"),
        (file(array((-2,), values=b"")), "has the shape"),
        (file(array((0, 3))), "has the shape"),
        (file(array((2**40, 2**40), values=b"x" * 64)), "ends too early"),
        (file(array((10**6,), values=b"x" * 64)), "ends too early"),
        (file(array(kind=99)), "type 99"),
        (file(array(kind=-1)), "type -1"),
        (file(array(device=(77, 0))), "device 77"),
        (file(array(device=(2, -5))), "device 2"),
        (file(array(storage=1)), "sparse"),
        (file(array(storage=-9)), "unknown storage"),
        (file(array(magic=V3)), "NumPy interface"),
        (file(array(), names=[b"arg:a", b"arg:b"]), "2 names for 1 arrays"),
        (file(array(), names=[b"arg:\xff"]), "no UTF-8 text"),
        (file(array(), names=[b"arg:" + b"x" * 5000]), "has 5004 bytes"),
        (file(array(), array(), names=[b"arg:a", b"arg:a"]), "names two arrays"),
        (file(array(), names=[]), "holds no named parameters"),
        (file(names=[]), "holds no named parameters"),
        (file(array(), names=[b"a"]), "neither an arg: nor an aux: array"),
        (file(array(values=pack("<ff", 1, float("nan")))), "NaN or infinite values in arg:a"),
        (file(array(values=pack("<ff", float("-inf"), 1))), "NaN or infinite values in arg:a"),
        (file(array(kind=2, values=pack("<ee", float("nan"), 1))), "NaN or infinite values in arg:a"),
    ],
)
def test_damage_is_told_in_one_line(data, part, tmp_path) -> None:
    with pytest.raises(UserError, match=part) as caught:
        load_params(written(tmp_path, data))
    assert "\n" not in str(caught.value)
    assert "a-0001.params" in str(caught.value)


def test_numbers_that_no_training_arrives_at_are_warned_of(tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        load_params(written(tmp_path, file(array(values=pack("<ff", 1, 9e9)))))
        assert not caplog.messages
        load_params(written(tmp_path, file(array(values=pack("<ff", 1, -3e37)))))
    (message,) = caplog.messages
    assert "arg:a (3e+37)" in message


def test_states_of_an_optimizer_may_be_anything(tmp_path) -> None:
    read = read_arrays(written(tmp_path, file(array(values=pack("<ff", 1, float("inf"))))), weights=False)
    assert read["arg:a"].asnumpy().tolist() == [1, float("inf")]


def test_no_pipe_is_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "a-0001.params")
    with pytest.raises(UserError, match="is a pipe"):
        read_arrays(tmp_path / "a-0001.params")


@pytest.mark.parametrize("seed", range(40))
def test_any_damage_ends_in_arrays_or_one_line(seed, tmp_path) -> None:
    rng = random.Random(seed)
    data = bytearray(file(array((2, 3)), array((4,), magic=V1), array((3,), magic=None),
                          names=[b"arg:a", b"aux:b", b"arg:c"]))  # fmt: skip
    for _ in range(rng.choice([1, 1, 2, 4])):
        data[rng.randrange(len(data))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    path = written(tmp_path, bytes(data[: rng.choice([len(data), rng.randrange(len(data))])]))
    with contextlib.suppress(UserError):
        args, aux = load_params(path)
        assert len(args) + len(aux) == 3
