import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd.data.headers import FIRST_BYTES, OpenFile, image_format, image_size, jpeg_is_whole
from ssd.data.images import as_mxnet_reads, decode

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)


def encoded(suffix: str, options: tuple[int, ...] = ()) -> bytes:
    return cv2.imencode(suffix, IMAGE, options)[1].tobytes()


def tiff(orientation: int, order: str = "<", kind: int = 3, before: tuple = (), after: tuple = ()) -> bytes:
    """An EXIF header. kind: of the value, 3 = SHORT, 4 = LONG. before, after: entries (tag, kind, count, value)."""
    own = (f"{order}HHIHH", 0x0112, kind, 1, orientation, 0)
    if kind == 4:
        own = (f"{order}HHII", 0x0112, kind, 1, orientation)
    others = [(f"{order}HHII", *entry) for entry in before], [(f"{order}HHII", *entry) for entry in after]
    entries = [struct.pack(*entry) for entry in (*others[0], own, *others[1])]
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(f"{order}HIH", 42, 8, len(entries)) + b"".join(entries) + bytes(4)


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def exif(header: bytes) -> bytes:
    return segment(0xE1, b"Exif\0\0" + header)


def with_orientation(jpeg: bytes, orientation: int, order: str) -> bytes:
    return jpeg[:2] + exif(tiff(orientation, order)) + jpeg[2:]


def chunk(kind: bytes, data: bytes, broken: bool = False) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ broken)


def webp_with_exif(lossy: bool, header: bytes) -> bytes:
    plain = encoded(".webp", (cv2.IMWRITE_WEBP_QUALITY, 50 if lossy else 101))
    size = (IMAGE.shape[1] - 1).to_bytes(3, "little") + (IMAGE.shape[0] - 1).to_bytes(3, "little")
    parts = b"VP8X" + struct.pack("<II", 10, 8) + size + plain[12:] + b"EXIF" + struct.pack("<I", len(header)) + header
    return b"RIFF" + struct.pack("<I", len(parts) + 4) + b"WEBP" + parts


def shown(data: bytes) -> tuple[int, int]:
    """(width, height) of what the decoder makes of an image."""
    height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    return width, height


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
    assert image_format(data) == kind
    assert image_size(data) == (31, 20)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_that_of_the_decoder(order, orientation):
    data = with_orientation(encoded(".jpg"), orientation, order)
    height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert image_size(data) == (width, height) == ((20, 31) if orientation >= 5 else (31, 20))


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from([0x0100, 0x010E, 0x0110, 0x011A, 0x0128, 0x0131, 0x013B, 0x013E, 0x8298, 0x8769, 0x0112]),
        st.sampled_from([2, 3, 4, 5]),
        st.sampled_from([1, 4, 5, 20]),
        st.sampled_from([0, 1, 6, 8, 26, 9999]),
    ),
    max_size=3,
).map(tuple)
HEADERS = st.builds(
    tiff, st.integers(0, 9), st.sampled_from("<>"), st.sampled_from([1, 3, 4]), ENTRIES, ENTRIES
) | st.sampled_from([b"", b"I", b"II*\0", b"XX" + tiff(6)[2:], b"II\0\0" + tiff(6)[4:], tiff(6)[:-9]])
XMP = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")
BEFORE = st.lists(
    st.sampled_from([b"", XMP, segment(0xE1, b""), segment(0xE2, b"ICC_PROFILE\0\1\1"), segment(0xFE, b"comment"),
                     b"\xff", b"\xff\xff"]) | HEADERS.map(exif), max_size=4,
)  # fmt: skip
KINDS = st.sampled_from([(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)])
# A film behind the image, in which bytes happen to stand that are markers in a JPEG.
MOTION = b"\0\0\0\x18ftypmp42" + b"\xff\xda\0\x0c\xff\xe1" * 9


@given(KINDS, BEFORE, BEFORE, st.sampled_from([b"", b"\0" * 9, MOTION, exif(tiff(6))]))
@settings(max_examples=300)
def test_jpeg_agrees_with_the_decoder_wherever_exif_stands(kind, first, later, behind):
    data = encoded(".jpg", kind)
    frame = next(place for place in (data.find(b"\xff\xc0\0\x11"), data.find(b"\xff\xc2\0\x11")) if place > 0)
    scan = frame + 19  # behind the frame header
    data = data[:2] + b"".join(first) + data[2:scan] + b"".join(later) + data[scan:] + behind
    assert image_size(data) == shown(data)
    assert jpeg_is_whole(data)
    assert decode(as_mxnet_reads(data, "x"), "x").shape == decode(data, "x").shape


@given(st.lists(st.tuples(HEADERS, st.booleans(), st.sampled_from(["first", "last", "behind"])), max_size=3))
def test_png_agrees_with_the_decoder_wherever_exif_stands(headers):
    data = encoded(".png")
    place = {"first": 33, "last": len(data) - 12, "behind": len(data)}
    for header, broken, where in sorted(headers, key=lambda part: -place[part[2]]):
        data = data[: place[where]] + chunk(b"eXIf", header, broken) + data[place[where] :]
    assert image_size(data) == shown(data)


@given(st.booleans(), st.integers(0, 9))
def test_webp_agrees_with_the_decoder(lossy, orientation):
    data = webp_with_exif(lossy, tiff(orientation))
    assert image_size(data) == shown(data) == (31, 20)


def test_a_file_is_read_as_far_as_needed(tmp_path):
    turned = tiff(6)
    png = encoded(".png")
    texts = chunk(b"tEXt", b"a\0" + bytes(FIRST_BYTES))
    file = tmp_path / "a.png"
    file.write_bytes(png[:33] + texts + png[33:-12] + chunk(b"eXIf", turned) + png[-12:])
    with file.open("rb") as opened:
        assert image_size(OpenFile(opened.fileno())) == (20, 31) == shown(file.read_bytes())
    jpeg = encoded(".jpg")
    file.write_bytes(jpeg[:2] + segment(0xE2, bytes(65000)) * 3 + exif(turned) + jpeg[2:])
    with file.open("rb") as opened:
        assert image_size(OpenFile(opened.fileno())) == (20, 31) == shown(file.read_bytes())


@pytest.mark.parametrize("kind", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)])
def test_a_jpeg_cut_short_is_not_whole(kind):
    data = encoded(".jpg", kind)
    assert jpeg_is_whole(data)
    assert jpeg_is_whole(data + b"trailing bytes some cameras write")
    assert jpeg_is_whole(data + MOTION)
    with_thumbnail = data[:2] + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + data[2:]
    assert jpeg_is_whole(with_thumbnail)
    assert not jpeg_is_whole(with_thumbnail[:-2])
    assert not jpeg_is_whole(with_thumbnail[:-2] + bytes(100))
    assert not any(jpeg_is_whole(data[:length]) for length in range(len(data)))
    assert not any(jpeg_is_whole(data[:length] + bytes(50)) for length in range(0, len(data), 7))


@given(
    st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF....WEBPVP8X"])
)
def test_any_bytes_give_a_size_or_none(tail, head):
    size = image_size(head + tail)
    assert size is None or min(size) > 0


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_damaged_headers_give_a_size_or_none(suffix):
    data = encoded(suffix)[:64]
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data[: random.integers(1, len(data))])
        damaged[random.integers(len(damaged))] = random.integers(256)
        size = image_size(bytes(damaged))
        assert size is None or min(size) > 0
