"""Sizes of images from their headers, without decoding them, and where JPEG files end.

They agree with OpenCV's decoder (4.11), which is what every image goes through: also in which EXIF orientation counts.
Formats: JPEG (ITU-T T.81 annex B, EXIF 2.3 orientation), PNG (with eXIf), BMP, WebP.
"""

import os
import re
import struct
import zlib
from typing import Protocol

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp")  # of image files that are read, the usual first
# Of images in formats that are not: where files are listed by suffix, they are named instead of missed.
UNREAD_SUFFIXES = (".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ppm", ".pgm")

# Start-of-frame markers; C4, C8 and CC of this range are tables and an extension, not frames.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
JPEG_END, JPEG_SCAN, JPEG_APP1 = 0xD9, 0xDA, 0xE1
# A marker between or behind compressed data: neither a stuffed 0xFF of it nor one of its restart markers.
JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
EXIF_HEADER = 6  # "Exif", 0, 0
PNG_START = b"\x89PNG\r\n\x1a\n"
TIFF_ORDERS = {b"II": "<", b"MM": ">"}
DIRECTORY_ENTRY = 12  # bytes
ORIENTATION_TAG = 0x0112
# Other entries that the decoder reads on its way; one that lies outside of the header ends the reading. Texts: as many
# bytes as they count, elsewhere if more than four; and rational numbers, of eight bytes.
TEXT_TAGS = frozenset({0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x8298})
RATIONAL_TAGS = {0x011A: 1, 0x011B: 1, 0x013E: 2, 0x013F: 6, 0x0211: 3, 0x0214: 6}
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
FIRST_BYTES = 1 << 16  # of a file, read at once: they hold the size of nearly every image


class Bytes(Protocol):
    """What the readers take: bytes, or a file of which they read what they need."""

    def __getitem__(self, part: slice, /) -> bytes: ...
    def __len__(self) -> int: ...


class OpenFile:
    """The bytes of a file that is open for reading, read as they are asked for. Errors: OSError."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._size = os.fstat(handle).st_size
        self._first = os.pread(handle, FIRST_BYTES, 0)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        return self._first[start:stop] if stop <= FIRST_BYTES else os.pread(self._handle, max(0, stop - start), start)


def image_format(data: Bytes) -> str | None:
    """One of "jpeg", "png", "bmp" and "webp" by the file's first bytes; None for anything else."""
    head = data[:12]
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(PNG_START):
        return "png"
    if head.startswith(b"RIFF") and head[8:] == b"WEBP":
        return "webp"
    if head.startswith(b"BM"):
        return "bmp"
    return None


def image_size(data: Bytes) -> tuple[int, int] | None:
    """(width, height) in pixels as the decoder shows the image: upright, its EXIF orientation applied.

    None when the header is damaged or of no known format.
    """
    read = _size_and_orientation(data)
    if read is None:
        return None
    (width, height), orientation = read
    return (height, width) if orientation in SIDEWAYS else (width, height)


def orientation(data: Bytes) -> int:
    """The EXIF orientation 1..8 that the decoder applies; 1 (upright) where there is none."""
    read = _size_and_orientation(data)
    return 1 if read is None else read[1]


def _size_and_orientation(data: Bytes) -> tuple[tuple[int, int], int] | None:
    readers = {"jpeg": _jpeg, "png": _png, "bmp": _bmp, "webp": _webp}
    reader = readers.get(image_format(data) or "")
    if reader is None:
        return None
    try:
        read = reader(data)
    except (struct.error, IndexError):
        return None
    return read if read is not None and min(read[0]) > 0 else None


def jpeg_is_whole(data: bytes) -> bool:
    """Whether the marker that ends the image is there, wherever in the file; what follows it does not count.

    OpenCV before 4.11 fills what is missing of a truncated JPEG with gray without an error.
    """
    if data.endswith(b"\xff\xd9"):  # nearly every file, and several thousand a second are asked about in training
        return True
    position, scans = 2, 0
    while found := JPEG_MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker == JPEG_END:
            return scans > 0
        if marker in JPEG_BARE:
            continue
        if position + 2 > len(data):
            return False
        scans += marker == JPEG_SCAN
        position += int.from_bytes(data[position : position + 2], "big")  # a thumbnail lies inside of a segment
    return False


def png_fits(data: bytes) -> bool:
    """Whether no chunk of a PNG claims more bytes than the file has: the decoder sets them aside, up to 2 GB."""
    position = len(PNG_START)
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length > len(data):
            return False
        if data[position + 4 : position + 8] == b"IEND":
            break
        position += length + 12
    return True


def without_fill_bytes(jpeg: bytes) -> bytes:
    """The same JPEG without the bytes 0xFF that may stand before its first markers.

    The decoder inside MXNet finds no orientation behind them.
    """
    position, parts = 2, [jpeg[:2]]
    while (found := JPEG_MARKER.search(jpeg, position)) and found[1][0] not in (JPEG_SCAN, JPEG_END, *JPEG_BARE):
        end = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
        parts.append(jpeg[found.start() : end])
        position = end
    return b"".join([*parts, jpeg[position:]])


def _jpeg(data: Bytes) -> tuple[tuple[int, int], int] | None:
    position, size, app1 = 2, None, None
    while True:
        found = _jpeg_marker(data, position)
        if found is None:
            return None
        marker, position = found
        if marker in JPEG_BARE:
            continue
        if marker == JPEG_END:
            return None
        if marker == JPEG_SCAN:
            return None if size is None else (size, _tiff_orientation((app1 or b"")[EXIF_HEADER:]))
        (length,) = struct.unpack(">H", data[position : position + 2])
        if marker in JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[position + 3 : position + 7])
            size = (width, height)
        elif marker == JPEG_APP1 and app1 is None:  # the first counts, whatever is in it
            app1 = data[position + 2 : position + length]
        position += length


def _jpeg_marker(data: Bytes, position: int) -> tuple[int, int] | None:
    """The next marker and the position behind it; what lies before it is skipped, as the decoder does."""
    step = 64
    while position < len(data):
        found = JPEG_MARKER.search(part := data[position : position + step])
        if found:
            return found[1][0], position + found.end()
        position, step = position + max(1, len(part) - 1), 1 << 16
    return None


def _tiff_orientation(tiff: bytes) -> int:
    """The orientation in the first directory of a TIFF header; 1 where there is none that the decoder would apply."""
    order = TIFF_ORDERS.get(tiff[:2])
    try:
        if order is None or struct.unpack_from(f"{order}H", tiff, 2)[0] != 42:
            return 1
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries):
            place = directory + 2 + DIRECTORY_ENTRY * entry
            tag, _, count, offset = struct.unpack_from(f"{order}HHII", tiff, place)
            if tag == ORIENTATION_TAG:
                (value,) = struct.unpack_from(f"{order}H", tiff, place + 8)
                return value if 1 <= value <= 8 else 1
            size = count if tag in TEXT_TAGS and count > 4 else 8 * RATIONAL_TAGS.get(tag, 0)
            if size and offset + size > len(tiff):
                return 1
    except struct.error:
        return 1
    return 1


def _png(data: Bytes) -> tuple[tuple[int, int], int] | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    position = len(PNG_START)
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind == b"eXIf":  # the first that the decoder takes for one
            body = data[position + 4 : position + 8 + length]
            checksum = data[position + 8 + length : position + 12 + length]
            if body[4:6] in TIFF_ORDERS and checksum == struct.pack(">I", zlib.crc32(body)):
                return (width, height), _tiff_orientation(body[4:])
        if kind == b"IEND":
            break
        position += 12 + length
    return (width, height), 1


def _bmp(data: Bytes) -> tuple[tuple[int, int], int]:
    (header,) = struct.unpack("<I", data[14:18])
    width, height = struct.unpack("<HH", data[18:22]) if header == 12 else struct.unpack("<ii", data[18:26])
    return (abs(width), abs(height)), 1  # a negative height stores the rows top down


def _webp(data: Bytes) -> tuple[tuple[int, int], int] | None:
    """Without orientation: the decoder does not apply the EXIF chunk of this format."""
    chunk = data[12:16]
    if chunk == b"VP8 ":  # lossy: a key frame header
        width, height = struct.unpack("<HH", data[26:30])
        return (width & 0x3FFF, height & 0x3FFF), 1
    if chunk == b"VP8L":  # lossless: two 14-bit fields
        (bits,) = struct.unpack("<I", data[21:25])
        return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), 1
    if chunk == b"VP8X":  # extended: two 24-bit fields
        sides = data[24:30]
        if len(sides) == 6:
            return (int.from_bytes(sides[:3], "little") + 1, int.from_bytes(sides[3:], "little") + 1), 1
    return None
