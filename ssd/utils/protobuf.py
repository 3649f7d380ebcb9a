"""Protobuf's wire format, read without a schema and without copies: https://protobuf.dev/programming-guides/encoding."""

from collections.abc import Iterator
from itertools import count

MAX_FIELDS = 1 << 20  # of a file and the messages in it: more take seconds to walk, whatever they hold
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

View = memoryview


class WireError(ValueError):
    """The bytes are no protobuf message."""


def fields(message: View, seen: "count[int] | None" = None) -> Iterator[tuple[int, int | View]]:
    """(number, value) of each field: integers as such, everything else as its bytes. seen: of the file so far.

    Errors: WireError, also for more than MAX_FIELDS.
    """
    seen = count() if seen is None else seen
    for number, value, _ in whole_fields(message):
        if next(seen) >= MAX_FIELDS:
            raise WireError(f"more than {MAX_FIELDS} fields")
        yield number, value


def whole_fields(message: View) -> Iterator[tuple[int, int | View, View]]:
    """(number, value, all of its bytes in the message) of each field. Errors: WireError."""
    position = 0
    while position < len(message):
        start = position
        key, position = varint(message, position)
        number, kind = key >> 3, key & 7
        value: int | View
        if kind == VARINT:
            value, position = varint(message, position)
        else:
            if kind == BYTES:
                length, position = varint(message, position)
            elif kind in (FIXED32, FIXED64):
                length = 4 if kind == FIXED32 else 8
            else:
                raise WireError(f"wire type {kind} of field {number}")
            if length > len(message) - position:
                raise WireError("cut short")
            value = message[position : position + length]
            position += length
        yield number, value, message[start:position]


def varint(data: View, position: int) -> tuple[int, int]:
    """A number of at most ten bytes, seven bits each, lowest first; and where the next one starts."""
    value = 0
    for shift in range(0, 70, 7):
        if position == len(data):
            raise WireError("cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise WireError("a number of more than ten bytes")


def head(number: int, length: int) -> bytes:
    """What comes before the `length` bytes of a field that holds bytes, a text or a message."""
    return _as_varint(number << 3 | BYTES) + _as_varint(length)


def _as_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
