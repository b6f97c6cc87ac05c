"""Protobuf messages, field by field, without a library (https://protobuf.dev/programming-guides/encoding)."""

import mmap
from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message: all of it lies from `start` to `stop`, and what it holds from `begin`.

    `value` is the number that one without a fixed length holds, `long` says that it holds bytes.
    """

    number: int
    start: int
    begin: int
    stop: int
    value: int | None = None
    long: bool = False


def message_fields(content: bytes | mmap.mmap, start: int, end: int) -> Iterator[Field]:
    """The fields of the message that lies from `start` to `end`.

    Raises IndexError or ValueError where there is none.
    """
    place = start
    while place < end:
        first = place
        tag, place = varint(content, place, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            begin = place
            value, place = varint(content, place, end)
            yield Field(number, first, begin, place, value)
        elif wire == _BYTES:
            length, begin = varint(content, place, end)
            if length > end - begin:
                raise ValueError("a field beyond its message")
            place = begin + length
            yield Field(number, first, begin, place, long=True)
        elif wire in (_FIXED64, _FIXED32):
            begin, place = place, place + (8 if wire == _FIXED64 else 4)
            yield Field(number, first, begin, place)
        else:
            raise ValueError("groups, which ONNX does not have")
    if place != end:
        raise ValueError("a field beyond its message")


def varint(content: bytes | mmap.mmap, place: int, end: int) -> tuple[int, int]:
    """A number without a fixed length, and where it ends."""
    value = shift = 0
    while True:
        if place >= end or shift > 63:
            raise ValueError("a number without an end")
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def number_field(number: int, value: int) -> bytes:
    """A field that holds a number, which is not negative."""
    return _varint_bytes(number << 3 | _VARINT) + _varint_bytes(value)


def bytes_field(number: int, content: bytes) -> bytes:
    """A field that holds a text or a message."""
    return _varint_bytes(number << 3 | _BYTES) + _varint_bytes(len(content)) + content


def _varint_bytes(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))
