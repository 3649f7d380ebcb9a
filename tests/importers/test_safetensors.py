"""Reading .safetensors files, and refusing those that are none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.importers.safetensors import read_safetensors
from ssd.utils.errors import UserError

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([0.5, -2], np.float16),
    "c": np.array(3, np.float64),
    "count": np.array(7, np.int64),
}
KINDS = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64"}


def content(changed: dict[str, Any] | None = None, text: bytes | None = None, tail: bytes = b"") -> bytes:
    """A file of ARRAYS. changed: entries of its header; text: instead of its header."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, array in ARRAYS.items():
        end = place + array.nbytes
        header[name] = {"dtype": KINDS[str(array.dtype)], "shape": list(array.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps({**header, **(changed or {})}).encode() if text is None else text
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in ARRAYS.values()) + tail


def test_numbers_come_as_float32_and_counters_not(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content())
    found = read_safetensors(tmp_path / "x")
    assert found.keys() == {"a.weight", "b", "c"}
    for name, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_bfloat16(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    values = np.array([1.5, -3], np.float32).view(np.uint32) >> 16
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + values.astype("<u2").tobytes())
    np.testing.assert_array_equal(read_safetensors(tmp_path / "x")["x"], [1.5, -3])


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_safetensors(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "it ends too early"),
        (b"\xff" * 8, "its header claims 18446744073709551615 bytes"),
        ((10**9).to_bytes(8, "little") + b"{}", "its header claims 1000000000 bytes"),
        (content(text=b"{"), "its header is not JSON"),
        pytest.param(
            content(text=b'{"x": [' + b"[]," * 2_000_000 + b"[]]}"), "its header is not JSON", id="many lists"
        ),
        pytest.param(content(text=b'{"x": ' + b"[" * 80 + b"]" * 80 + b"}"), "its header is not JSON", id="deep"),
        (content(text=b"[]"), "its header has no arrays"),
        (content(text=b"[" * 100_000), "its header is not JSON"),
        (content({"b": 3}), "'b' is not described"),
        (content({"b": {"dtype": "F8", "shape": [2], "data_offsets": [24, 28]}}), "of type F8"),
        (content({"b": {"dtype": "F16", "shape": [2.0], "data_offsets": [24, 28]}}), "no shape or no place"),
        (content({"b": {"dtype": "F16", "shape": [-2], "data_offsets": [24, 28]}}), "no shape or no place"),
        (content({"b": {"dtype": "F16", "shape": [10**9, 10**9], "data_offsets": [24, 28]}}), "claims"),
        (content({"b": {"dtype": "F16", "shape": [2], "data_offsets": [20, 24]}}), "'b' begins at 20"),
        (content({"d": {"dtype": "F16", "shape": [0], "data_offsets": [99, 99]}}), "'d' begins at 99"),
        (content(tail=b"more"), "48 bytes are there"),
        (content()[:-1], "43 bytes are there"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, data: bytes, part: str) -> None:
    assert part in refusal(tmp_path / "x", data)


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    data = len(header).to_bytes(8, "little") + header + np.array([np.nan], np.float32).tobytes()
    assert "NaN or infinite values in x" in refusal(tmp_path / "x", data)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_safetensors(tmp_path / "none")


@given(st.integers(0, len(content()) - 1), st.integers(0, 255))
def test_a_changed_byte_ends_in_arrays_or_one_line(tmp_path_factory: Any, place: int, byte: int) -> None:
    data = bytearray(content())
    data[place] = byte
    path = tmp_path_factory.mktemp("x") / "x"
    path.write_bytes(bytes(data))
    told = ""
    try:
        read_safetensors(path)
    except UserError as error:
        told = str(error)
    assert "\n" not in told
