"""Arrays out of binary files, in all the ways protobuf may write them, and none out of damaged ones."""

from pathlib import Path

import numpy as np
import pytest
from caffe_files import blob, number, packed, varint

from ssd.importers.caffe import wire
from ssd.importers.caffe.wire import read_mean, read_weights
from ssd.utils.errors import UserError
from ssd.utils.protobuf import head

ARRAY = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7


def layer(name: str, *blobs: bytes) -> bytes:
    return packed(100, packed(1, name.encode()) + packed(2, b"Convolution") + b"".join(packed(7, b) for b in blobs))


def written(folder: Path, data: bytes) -> Path:
    (folder / "net.caffemodel").write_bytes(data)
    return folder / "net.caffemodel"


@pytest.mark.parametrize("form", ["new", "old", "double", "single"])
def test_forms_of_arrays(form: str, tmp_path: Path) -> None:
    file = written(tmp_path, packed(1, b"net") + layer("a", blob(ARRAY, form), blob(ARRAY[0], form)))
    first, second = read_weights(file)["a"]
    np.testing.assert_array_equal(first, ARRAY)
    np.testing.assert_array_equal(second.reshape(3, 2, 2), ARRAY[0])
    assert first.dtype == np.float32


def test_arrays_in_parts_and_dimensions_one_by_one(tmp_path: Path) -> None:
    data = ARRAY.astype("<f4").tobytes()
    shape = packed(7, number(1, 4) + number(1, 6))
    file = written(tmp_path, layer("a", packed(5, data[:40]) + shape + packed(5, data[40:])))
    np.testing.assert_array_equal(read_weights(file)["a"][0], ARRAY.reshape(4, 6))


def test_old_layers_and_fields_of_forks(tmp_path: Path) -> None:
    """Layer options are passed over whatever a fork numbers them."""
    old = packed(2, packed(4, b"old") + number(5, 4) + packed(6, blob(ARRAY, "old")))
    new = packed(
        100, packed(1, b"new") + packed(206, b"\xff\xff") + varint(9 << 3 | 1) + b"12345678" + packed(7, blob(ARRAY))
    )
    weights = read_weights(written(tmp_path, old + new + layer("none")))
    assert list(weights) == ["old", "new"]
    np.testing.assert_array_equal(weights["old"][0], weights["new"][0])


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "no layers"),
        (b"hello, this is text", "no caffemodel"),
        (layer("a", blob(ARRAY))[:-5], "cut short"),
        (layer("a", packed(7, packed(1, varint(1 << 40))) + packed(5, bytes(16))), "holds 4 numbers"),
        (layer("a", packed(7, packed(1, varint(0) + varint(1 << 62)))), "holds 0 numbers"),
        (layer("a", packed(7, packed(1, b"\1" * 9)) + packed(5, bytes(4))), "more than 8 dimensions"),
        (layer("a", packed(7, packed(1, varint(1))) + packed(5, bytes(3))), "3 bytes"),
        (layer("a", blob(np.array([np.nan]))), "no numbers"),
        (layer("a", blob(np.array([1e300]), "double")), "no numbers"),
        (layer("a", *[blob(ARRAY)] * 17), "more than 16 arrays"),
        (b"\xff" * 11, "more than ten bytes"),
        (layer("a") * (wire.MAX_LAYERS + 1), "more than 5000 layers"),
    ],
)
def test_damage(data: bytes, part: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=part):
        read_weights(written(tmp_path, data))


def test_size_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, layer("a", blob(ARRAY, "single")))
    monkeypatch.setattr(wire, "MAX_PARTS", 10)
    with pytest.raises(UserError, match="more than 10 parts"):
        read_weights(file)
    monkeypatch.setattr(wire, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="too many for a caffemodel"):
        read_weights(file)
    with pytest.raises(UserError, match="cannot read the caffemodel"):
        read_weights(tmp_path / "nothing")


def test_mean_images(tmp_path: Path) -> None:
    for form in ("new", "old"):
        file = written(tmp_path, blob(ARRAY[0], form))
        np.testing.assert_array_equal(read_mean(file), ARRAY[0])
    for wrong in (blob(ARRAY), blob(np.zeros(3)), b"\x08", b""):
        with pytest.raises(UserError):
            read_mean(written(tmp_path, wrong))


@pytest.mark.parametrize("kind", ["top", "layer", "blob", "shape"])
def test_empty_fields_are_counted(kind: str, tmp_path: Path) -> None:
    data = b"\x98\x06\x01" * ((1 << 20) + 1)  # 99: 1, which is none of the fields that are read
    for field in {"top": (), "layer": (100,), "blob": (7, 100), "shape": (7, 7, 100)}[kind]:
        data = head(field, len(data)) + data
    with pytest.raises(UserError, match="more than 1048576 fields"):
        read_weights(written(tmp_path, data))
