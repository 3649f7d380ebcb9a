"""Picture sizes from the first bytes of a file, without decoding it.

Formats: JPEG (ITU-T T.81 annex B, EXIF 2.3 orientation), PNG, BMP, WebP.
"""

import struct

# Start-of-frame markers; C4, C8 and CC of this range are tables and an extension, not frames.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
JPEG_SCAN = 0xDA
JPEG_APP1 = 0xE1
ORIENTATION_TAG = 0x0112
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height


def picture_format(data: bytes) -> str | None:
    """One of "jpeg", "png", "bmp" and "webp" by the file's first bytes; None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith(b"BM"):
        return "bmp"
    return None


def picture_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels as the decoders show the picture: upright, its EXIF orientation applied.

    None when the header is damaged or of no known format.
    """
    readers = {"jpeg": _jpeg_size, "png": _png_size, "bmp": _bmp_size, "webp": _webp_size}
    reader = readers.get(picture_format(data) or "")
    if reader is None:
        return None
    try:
        size = reader(data)
    except (struct.error, IndexError):
        return None
    return size if size is not None and min(size) > 0 else None


def jpeg_is_whole(data: bytes) -> bool:
    """Whether an end marker follows the last start of compressed data (a thumbnail has its own, before it).

    OpenCV before 4.11 fills what is missing of a JPEG cut short with grey, and says nothing.
    """
    end = data.rfind(b"\xff\xd9")
    return end > data.find(b"\xff\xda") >= 0 > data.find(b"\xff\xda", end)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position, orientation = 2, 1
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in JPEG_BARE:
            position += 2
            continue
        if marker == JPEG_SCAN:
            return None
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return (height, width) if orientation in SIDEWAYS else (width, height)
        if marker == JPEG_APP1:
            orientation = _exif_orientation(data[position + 4 : position + 2 + length]) or orientation
        position += 2 + length
    return None


def _exif_orientation(segment: bytes) -> int | None:
    """The orientation 1..8 in the first directory of an APP1 segment, None when it is absent or damaged."""
    if not segment.startswith(b"Exif\0\0"):
        return None
    tiff = segment[6:]
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * entry)
            if tag == ORIENTATION_TAG:
                return value
    except struct.error:
        return None
    return None


def _png_size(data: bytes) -> tuple[int, int] | None:
    return struct.unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else None


def _bmp_size(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)  # a negative height stores the rows top down


def _webp_size(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if chunk == b"VP8 ":  # lossy: a key frame header
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L":  # lossless: two 14-bit fields
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8X":  # extended: two 24-bit fields
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None
