import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.recordio.format import MAGIC, encode, opened, read_at, scan
from ssd.mxnet_compat import mx
from ssd.utils.errors import UserError

PIECES = st.lists(st.sampled_from([MAGIC, b"abcd", b"x", b"\0\0\0\0", b"12345678", MAGIC[:2]]), max_size=12)


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 5), PIECES), min_size=1, max_size=4))
def test_what_is_written_is_read_back(records):
    data = b""
    for number, floats, pieces in records:
        data += encode(number, np.arange(floats, dtype=np.float32), b"".join(pieces))
    read = list(scan(data, "x"))
    assert [(item.id, item.data) for item in read] == [(number, b"".join(pieces)) for number, _, pieces in records]
    assert read[-1].end == len(data)
    for item, (_, floats, _) in zip(read, records, strict=True):
        np.testing.assert_array_equal(item.label, np.arange(floats) if floats else [0])
        assert read_at(data, item.start, "x").data == item.data


@pytest.mark.parametrize(
    "data", [b"", b"image", MAGIC, MAGIC * 3, b"1234" + MAGIC + b"5678" + MAGIC + b"9", b"1" + MAGIC]
)
def test_mxnet_reads_and_writes_the_same_bytes(tmp_path, data):
    label = np.array([2, 5, 1, 0.25, 0.5, 0.75, 1], np.float32)
    theirs, ours = tmp_path / "theirs.rec", tmp_path / "ours.rec"
    writer = mx.recordio.MXRecordIO(str(theirs), "w")
    packed = mx.recordio.pack(mx.recordio.IRHeader(0, label, 7, 0), data)
    writer.write(packed)
    writer.write(packed)
    writer.close()
    ours.write_bytes(encode(7, label, data) * 2)
    assert ours.read_bytes() == theirs.read_bytes()
    reader = mx.recordio.MXRecordIO(str(ours), "r")
    header, body = mx.recordio.unpack(reader.read())
    assert (header.id, header.label.tolist(), body) == (7, label.tolist(), data)
    with opened(theirs) as view:
        assert [record.data for record in scan(view, "x")] == [data, data]


def test_a_single_number_as_label(tmp_path):
    packed = mx.recordio.pack(mx.recordio.IRHeader(0, 3.0, 1, 0), b"abc")
    writer = mx.recordio.MXRecordIO(str(tmp_path / "x.rec"), "w")
    writer.write(packed)
    writer.close()
    (record,) = scan((tmp_path / "x.rec").read_bytes(), "x")
    assert record.label.tolist() == [3.0]


WHOLE = encode(1, np.ones(7, np.float32), b"abcdefg")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (WHOLE[:-12], "x: record 0 at byte 0 is cut short"),
        (WHOLE + WHOLE[:5], "x: record 1 at byte 68 is cut short"),
        (WHOLE + b"12345678", "x: record 1 at byte 68 is damaged, or the file is no MXNet record file"),
        (MAGIC + struct.pack("<I", 3 << 29 | 4) + b"abcd", "is damaged"),
        (MAGIC + struct.pack("<I", 1 << 29 | 4) + b"abcd", "is cut short"),
        (MAGIC + struct.pack("<I", 4) + b"abcd", "is too short for an image"),
        (
            MAGIC + struct.pack("<I", 24) + struct.pack("<IfQQ", 9, 0, 0, 0),
            "has a label of 9 numbers, more than it holds",
        ),
        (MAGIC + struct.pack("<I", 24) + struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0), "has a label of 4294967295 numbers"),
    ],
)
def test_damage_is_named(data, message):
    with pytest.raises(UserError) as error:
        list(scan(data, "x"))
    assert message in str(error.value)


def test_files_that_cannot_be_opened(tmp_path):
    with (
        pytest.raises(UserError, match="none.rec: cannot read the records: No such file"),
        opened(tmp_path / "none.rec"),
    ):
        pass
    (tmp_path / "empty.rec").touch()
    with opened(tmp_path / "empty.rec") as view:
        assert list(scan(view, "x")) == []
