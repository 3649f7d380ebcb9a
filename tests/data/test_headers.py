import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.headers import jpeg_is_whole, picture_format, picture_size

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)


def encoded(suffix: str, options: tuple[int, ...] = ()) -> bytes:
    return cv2.imencode(suffix, PICTURE, options)[1].tobytes()


def with_orientation(jpeg: bytes, orientation: int, order: str) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    tiff = mark + struct.pack(f"{order}HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.mark.parametrize(
    ("suffix", "options", "kind"),
    [
        (".jpg", (), "jpeg"),
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "jpeg"),
        (".png", (), "png"),
        (".bmp", (), "bmp"),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 50), "webp"),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101), "webp"),
    ],
)
def test_size_and_format(suffix, options, kind):
    data = encoded(suffix, options)
    assert picture_format(data) == kind
    assert picture_size(data) == (31, 20)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_that_of_the_decoder(order, orientation):
    data = with_orientation(encoded(".jpg"), orientation, order)
    height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert picture_size(data) == (width, height) == ((20, 31) if orientation >= 5 else (31, 20))


def test_a_jpeg_cut_short_is_not_whole():
    data = encoded(".jpg")
    assert jpeg_is_whole(data)
    assert jpeg_is_whole(data + b"trailing bytes some cameras write")
    with_thumbnail = data[:2] + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + data[2:]
    assert jpeg_is_whole(with_thumbnail)
    assert not jpeg_is_whole(with_thumbnail[:-2])
    assert not any(jpeg_is_whole(data[:length]) for length in range(len(data)))


@given(
    st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF....WEBPVP8X"])
)
def test_any_bytes_give_a_size_or_none(tail, head):
    size = picture_size(head + tail)
    assert size is None or min(size) > 0


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_damaged_headers_give_a_size_or_none(suffix):
    data = encoded(suffix)[:64]
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data[: random.integers(1, len(data))])
        damaged[random.integers(len(damaged))] = random.integers(256)
        size = picture_size(bytes(damaged))
        assert size is None or min(size) > 0
