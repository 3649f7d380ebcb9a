import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.claims import holds
from ssd.data.headers import JPEG_FRAMES, image_size
from ssd.data.images import check_header, decode, verify
from ssd.utils.errors import UserError

PHOTO = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8), (0, 0), 3)
FACTORS = (0x411111, 0x420000, 0x221111, 0x211111, 0x121111, 0x111111)
PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
OPTIMIZED = (cv2.IMWRITE_JPEG_OPTIMIZE, 1)


def encoded(image, suffix, options=()) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


def claiming(jpeg: bytes, width: int, height: int) -> bytes:
    data, position = bytearray(jpeg), 2
    while data[position + 1] not in JPEG_FRAMES:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    data[position + 5 : position + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("options", [(), PROGRESSIVE, OPTIMIZED, (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("function", [check_header, verify, decode])
def test_a_jpeg_that_claims_far_more_than_it_holds(options, gray, function, monkeypatch, capfd):
    data = encoded(PHOTO[..., 0] if gray else PHOTO, ".jpg", options)
    function(data, "a.jpg")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for width, height in ((14000, 14000), (65000, 3000), (900, 65000)):
        with pytest.raises(UserError, match=rf"^a.jpg: the header claims {width}x{height} pixels, which the file of"):
            function(claiming(data, width, height), "a.jpg")


@pytest.mark.parametrize("options", [(), PROGRESSIVE])
def test_four_times_the_sides_of_a_photograph(options):
    assert not holds(claiming(encoded(PHOTO, ".jpg"), 800, 800), (800, 800))


def test_a_bitmap_of_runs_that_claims_more_than_it_holds():
    header = struct.pack("<iiHHIIiiII", 14000, 14000, 1, 8, 1, 4, 0, 0, 256, 0)
    bitmap = b"BM" + struct.pack("<IHHII", 0, 0, 0, 54 + 1024, 40) + header + bytes(1024) + b"\0\1\0\1"
    assert image_size(bitmap) == (14000, 14000)
    with pytest.raises(UserError, match="the header claims 14000x14000 pixels, which the file of 1082 bytes cannot"):
        check_header(bitmap, "a.bmp")


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_decoders_refuse_the_others(suffix):
    data = bytearray(encoded(PHOTO, suffix))
    if suffix == ".bmp":
        data[18:26] = struct.pack("<ii", 14000, 14000)
    else:
        data[16:24] = struct.pack(">II", 14000, 14000)
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(UserError, match="cannot be decoded, it is damaged or truncated"):
        verify(bytes(data), "a")


@given(
    st.integers(1, 700), st.integers(1, 700), st.booleans(), st.sampled_from(FACTORS),
    st.sampled_from([(), PROGRESSIVE]), st.sampled_from([(), OPTIMIZED]), st.integers(0, 255), st.integers(1, 100),
)  # fmt: skip
def test_no_sound_file_is_refused(width, height, gray, factor, progressive, optimized, level, quality):
    """A single color takes the fewest bytes."""
    image = np.full((height, width) if gray else (height, width, 3), level, np.uint8)
    options = (*progressive, *optimized, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor, cv2.IMWRITE_JPEG_QUALITY, quality)
    assert holds(encoded(image, ".jpg", options), (width, height))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".jpg"])
def test_large_pages_of_one_color_are_sound(suffix):
    assert holds(encoded(np.full((3000, 4000, 3), 255, np.uint8), suffix, PROGRESSIVE), (4000, 3000))


@given(st.binary(max_size=300))
def test_any_bytes(tail):
    for head in (b"\xff\xd8\xff", b"BM", b"", encoded(PHOTO[:8, :8], ".jpg")[:300]):
        assert holds(head + tail, (14000, 14000)) in (True, False)
