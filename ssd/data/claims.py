"""Whether a file can hold the pixels that its header claims. Decoders fill with gray what is missing of some formats.

Bounds, no estimates: the shortest codes that a file allows for each of its blocks (ITU-T T.81, annexes C and F) must
fit into it, so no sound file is refused. What a truncated JPEG lacks beyond that is not seen here.
PNG and WebP files that hold too little are refused by their decoders.
"""

import struct
from dataclasses import dataclass, field

from ssd.data.headers import JPEG_BARE, JPEG_FRAMES, JPEG_MARKER, JPEG_SCAN, image_format

PLENTY = 16  # pixels per byte: files with fewer are not looked at; photographs have less than ten, most about three
HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})  # frames: baseline, extended, progressive; others are not bounded here
PROGRESSIVE = 0xC2
DHT = 0xC4
RUN_OF_16 = 0xF0  # of zeros, a symbol that does not end a block
BLOCK = 8  # pixels
BMP_RUNS = (1, 2)  # compressions of BMP by runs of at most 255 pixels in two bytes
BMP_RUN = 255 / 2


def holds(data: bytes, size: tuple[int, int]) -> bool:
    """Whether the file has room for the pixels (width, height) of its header; True where nothing is known."""
    pixels = size[0] * size[1]
    if pixels <= PLENTY * len(data):
        return True
    kind = image_format(data)
    if kind == "bmp":
        compression = int.from_bytes(data[30:34], "little") if len(data) >= 34 and data[14:18] != b"\x0c\0\0\0" else 0
        return compression not in BMP_RUNS or pixels <= BMP_RUN * len(data)
    if kind == "jpeg":
        try:
            return _jpeg_holds(data)
        except (struct.error, IndexError):
            return True
    return True


@dataclass
class Jpeg:
    """What stands before the first scan. components: id -> sampling factors (horizontal, vertical); dc, ac: number of a
    table -> fewest bits of a block."""

    frame: int = 0
    height: int = 0
    width: int = 0
    components: dict[int, tuple[int, int]] = field(default_factory=dict)
    dc: dict[int, int] = field(default_factory=dict)
    ac: dict[int, int] = field(default_factory=dict)


def _jpeg_holds(data: bytes) -> bool:
    image, position = Jpeg(), 2
    while found := JPEG_MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker in JPEG_BARE:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        body = data[position + 2 : position + length]
        position += length
        if marker in JPEG_FRAMES:
            image.frame = marker
            image.height, image.width, count = struct.unpack_from(">xHHB", body)
            triples = [body[6 + 3 * number : 9 + 3 * number] for number in range(count)]
            image.components = {part[0]: (part[1] >> 4, part[1] & 15) for part in triples}
        elif marker == DHT:
            _read_tables(body, image)
        elif marker == JPEG_SCAN:
            return image.frame not in HUFFMAN or _least_bits(image, body) <= 8 * (len(data) - position)
    return True


def _read_tables(body: bytes, image: Jpeg) -> None:
    while body:
        kind, counts = body[0], body[1:17]
        lengths = [length for length, count in enumerate(counts, start=1) for _ in range(count)]
        symbols = body[17 : 17 + len(lengths)]
        body = body[17 + len(lengths) :]
        codes = list(zip(symbols, lengths, strict=False))
        if not codes:
            continue
        if kind >> 4:  # a block ends with one code, or after four: each stands for 16 of 63 numbers at most
            ends = [length for symbol, length in codes if symbol & 15 == 0 and symbol != RUN_OF_16]
            image.ac[kind & 15] = min([*ends, 4 * min(lengths)])
        else:  # a symbol is followed by as many bits
            image.dc[kind & 15] = min(length + (symbol & 15) for symbol, length in codes)


def _least_bits(image: Jpeg, scan: bytes) -> int:
    """That the first scan takes, or all of them where the first has not all components."""
    tables = {scan[1 + 2 * number]: scan[2 + 2 * number] for number in range(scan[0])}
    across, down = (max(factors) for factors in zip(*image.components.values(), strict=True))
    bits = 0
    for component, (horizontal, vertical) in image.components.items():
        columns = -(-image.width * horizontal // (across * BLOCK))
        rows = -(-image.height * vertical // (down * BLOCK))
        first = tables.get(component) if len(tables) == len(image.components) else None
        # Tables may be replaced between scans; a code has a bit at least.
        dc = 1 if first is None else image.dc.get(first >> 4, 1)
        ac = 1 if first is None else image.ac.get(first & 15, 1)
        # In a progressive file one code may end thousands of blocks.
        bits += columns * rows * (dc if image.frame == PROGRESSIVE else dc + ac)
    return bits
