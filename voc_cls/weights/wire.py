"""Protocol buffers' wire format, read field by field and without a schema: a file of any size, nothing copied.

https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator

LONGEST_VARINT = 10
SIGN = 2**63


class Damaged(ValueError):
    """Bytes that break the rules of their format; the message is the reason, for the end of a sentence."""


def varint(data: memoryview | bytes, position: int) -> tuple[int, int]:
    """(unsigned number, the position behind it)."""
    value = 0
    for shift in range(LONGEST_VARINT):
        if position >= len(data):
            raise Damaged("it ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, position
    raise Damaged("a number has no end")


def signed(value: int) -> int:
    """An int64 that was written as a varint."""
    value %= 2 * SIGN
    return value - 2 * SIGN if value >= SIGN else value


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value): a number for varint and fixed fields, a view for what has a length."""
    position = 0
    while position < len(data):
        tag, position = varint(data, position)
        kind = tag & 7
        if kind == 0:
            value, position = varint(data, position)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, position = varint(data, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise Damaged(f"a field of the unknown kind {kind}")
        if length > len(data) - position:
            raise Damaged(f"a field of {length:,} bytes where {len(data) - position:,} are left")
        part = data[position:position + length]
        position += length
        yield tag >> 3, part if kind == 2 else int.from_bytes(part, "little")


def number(value: int | memoryview) -> int:
    """The value of a field that must be a number."""
    if isinstance(value, memoryview):
        raise Damaged("a field holds bytes where a number belongs")
    return value


def message(value: int | memoryview) -> memoryview:
    """The value of a field that must have a length."""
    if isinstance(value, int):
        raise Damaged("a field holds a number where bytes belong")
    return value


def text(value: int | memoryview) -> str:
    """The value of a field that must be UTF-8."""
    try:
        return str(message(value), "utf-8")
    except UnicodeDecodeError:
        raise Damaged("a name is no text") from None


def put_varint(value: int) -> bytes:
    """An unsigned number as varint."""
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def put_number(field: int, value: int) -> bytes:
    """A varint field; nothing for 0, as proto3 has it."""
    return put_varint(field << 3) + put_varint(value) if value else b""


def put_bytes(field: int, value: bytes) -> bytes:
    """A field with a length."""
    return put_varint(field << 3 | 2) + put_varint(len(value)) + value
