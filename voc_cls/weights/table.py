"""A table: sorted keys with values in one file, in the format of LevelDB that TensorFlow keeps checkpoints in.

    blocks of entries, each with its type and checksum ∥ an index of the blocks ∥ a footer of 48 bytes

https://github.com/google/leveldb/blob/main/doc/table_format.md; TensorFlow's: tensorflow/core/lib/io/format.h
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from voc_cls.weights.wire import Damaged, put_varint, varint

MAGIC = bytes.fromhex("57fb808b247547db")
"""The last 8 bytes of a table: kTableMagicNumber of format.h."""
FOOTER = 48
TRAILER = 5
"""Behind each block: one byte for the compression, four for the checksum."""
LONGEST_KEY = 2**16
MOST_ENTRIES = 2**20
"""More than any network has tensors: a table whose index has more is not one of a checkpoint."""
CRC_PIECE = 2**20


def crc32c(data: memoryview | bytes, before: int = 0) -> int:
    """CRC-32C of `data` behind bytes whose CRC is `before`."""
    import google_crc32c

    for start in range(0, len(data), CRC_PIECE):  # its C code takes bytes alone, which are a copy
        before = google_crc32c.extend(before, bytes(data[start:start + CRC_PIECE]))
    return before


def masked(crc: int) -> int:
    """A CRC as it is stored: crc32c.h of LevelDB rotates it and adds a constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def is_table(file: Path) -> bool:
    """Whether a file ends as a table does."""
    if not file.is_file() or file.stat().st_size < FOOTER:
        return False
    with file.open("rb") as stream:
        stream.seek(-len(MAGIC), os.SEEK_END)
        return stream.read() == MAGIC


class Table:
    """An opened table. Only its index is kept in memory; Damaged where bytes break the format or fail a checksum."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            if size < FOOTER:
                raise Damaged("it is too short")
            stream.seek(size - FOOTER)
            footer = stream.read(FOOTER)
            position = _handle(footer, 0)[1]
            (offset, length), _ = _handle(footer, position)
            self._keys, self._handles = [], []
            for key, value in entries(_block(stream, offset, length)):
                self._keys.append(key)
                self._handles.append(_handle(value, 0)[0])

    def __iter__(self) -> Iterator[tuple[bytes, memoryview]]:
        """Every key with its value, in order."""
        count = 0
        with self.path.open("rb") as stream:
            for offset, length in self._handles:
                for key, value in entries(_block(stream, offset, length)):
                    count += 1
                    if count > MOST_ENTRIES:
                        raise Damaged(f"it has more than {MOST_ENTRIES:,} entries")
                    yield key, value

    def get(self, key: bytes) -> memoryview:
        """The value of `key`: the whole block that it lies in is read."""
        place = bisect.bisect_left(self._keys, key)  # the index has the last key of each block, or one behind it
        if place < len(self._handles):
            with self.path.open("rb") as stream:
                block = _block(stream, *self._handles[place])
            for found, value in entries(block):
                if found == key:
                    return value
        raise Damaged("its values are not in the file")


def write_table(path: Path, items: Mapping[bytes, bytes]) -> None:
    """Writes a table with one block, as is enough for an index."""
    with path.open("wb") as stream:
        data = _put_block(stream, dict(sorted(items.items())))
        meta = _put_block(stream, {})
        index = _put_block(stream, {max(items, default=b""): data})
        stream.write((meta + index).ljust(FOOTER - len(MAGIC), b"\0") + MAGIC)


def entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """(key, value) of a block: each key is stored as what differs from the one before it."""
    if len(block) < 4:
        raise Damaged("a block is too short")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise Damaged("a block is too short")
    key, position, count = b"", 0, 0
    while position < end:
        shared, position = varint(block, position)
        own, position = varint(block, position)
        length, position = varint(block, position)
        count += 1
        if shared > len(key) or own + length > end - position or shared + own > LONGEST_KEY or count > MOST_ENTRIES:
            raise Damaged("an entry is longer than its block")
        key = key[:shared] + bytes(block[position:position + own])
        position += own
        yield key, block[position:position + length]
        position += length


def _block(stream: BinaryIO, offset: int, length: int) -> memoryview:
    size = stream.seek(0, os.SEEK_END)
    if offset + length + TRAILER > size:
        raise Damaged(f"bytes {offset:,} to {offset + length:,} belong to it and the file has {size:,}")
    stream.seek(offset)
    block = memoryview(bytearray(length + TRAILER))
    if stream.readinto(block) != len(block):  # type: ignore[attr-defined]
        raise Damaged("the file became shorter")
    if masked(crc32c(block[:length + 1])) != int.from_bytes(block[length + 1:], "little"):
        raise Damaged("its checksum is another")
    if block[length] != 0:
        raise Damaged("it is compressed, which TensorFlow's checkpoints are not")
    return block[:length]


def _handle(data: memoryview | bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = varint(data, position)
    length, position = varint(data, position)
    return (offset, length), position


def _put_block(stream: BinaryIO, items: Mapping[bytes, bytes]) -> bytes:
    """Writes a block without shortened keys; returns its handle."""
    offset, block, restarts = stream.tell(), bytearray(), []
    for key, value in items.items():
        restarts.append(len(block))
        block += b"\0" + put_varint(len(key)) + put_varint(len(value)) + key + value
    restarts = restarts or [0]
    for number in [*restarts, len(restarts)]:
        block += number.to_bytes(4, "little")
    length = len(block)
    written = bytes(block + b"\0")
    stream.write(written + masked(crc32c(written)).to_bytes(4, "little"))
    return put_varint(offset) + put_varint(length)
