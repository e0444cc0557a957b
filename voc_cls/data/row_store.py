"""One folder of rows on disk: what is in it, whether it is whole, how it grows, who uses it.

`rows.bin` has the rows as raw numbers, `index.jsonl` first what the store is for, then a line for every block of rows:
their items and their CRC-32. Both only grow; a block counts from the moment its line is whole. `lock` is held by the
process that reads or fills the store, `rows.bin` is locked, shared, by every process that uses the rows.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class RowStore:
    """The store in the folder `path` for rows of `shape` and `dtype`, `head` being what its index must begin with.

    Everything is to be done within `locked`. OSError as from the file system.
    """

    def __init__(self, path: Path, head: dict[str, Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.head, self.shape, self.dtype = path, head, shape, dtype
        self.rows, self.index = path / "rows.bin", path / "index.jsonl"
        self.row_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.where: dict[str, int] = {}
        """Item → number of its row."""
        self.index_bytes = 0
        self.before = (0, 0)
        """Rows, and bytes of the index, before this process added any."""

    @property
    def bytes(self) -> int:
        """Size of the rows that count."""
        return len(self.where) * self.row_bytes

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[], object]) -> Iterator[None]:
        """For this process alone; the folder goes at the end if no row came to be in it. waiting: called first if
        another process has to be waited for."""
        path = self.path / "lock"
        while True:
            self.path.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another process has just deleted the store
                file = path.open("ab")
                acquire(file, waiting)
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
        with file:
            try:
                yield
            finally:
                if not self.where:
                    shutil.rmtree(self.path, ignore_errors=True)

    def read(self) -> str | None:
        """Reads the index and checks every byte; returns what is wrong, None where nothing is."""
        if not self.index.exists():
            return "its index is missing" if self.rows.exists() else None
        lines = [line for line in self.index.read_bytes().splitlines(keepends=True)
                 if line.endswith(b"\n")]  # a process killed while it wrote leaves half a line at the end
        try:
            if not lines or json.loads(lines[0]) != self.head:
                return "it is for something else"
            blocks = [([str(item) for item in block["items"]], block["crc32"]) for block in map(json.loads, lines[1:])]
            items = list(chain.from_iterable(items for items, _ in blocks))
            self.where = {item: number for number, item in enumerate(items)}
        except (ValueError, KeyError, TypeError):
            return "its index is damaged"
        there = self.rows.stat().st_size if self.rows.exists() else 0
        damage = None
        if there < len(items) * self.row_bytes:
            damage = f"it is cut short: {there:,} of {len(items) * self.row_bytes:,} bytes of rows"
        elif items and not self._intact(blocks):
            damage = "it is damaged: a checksum differs"
        self.index_bytes = sum(map(len, lines))
        return damage

    def _intact(self, blocks: list[tuple[list[str], int]]) -> bool:
        content = np.memmap(self.rows, np.uint8, "r")
        ends = np.cumsum([len(items) for items, _ in blocks]) * self.row_bytes

        def fits(number: int) -> bool:
            items, crc = blocks[number]
            end = int(ends[number])
            return _checksum(items, content[end - len(items) * self.row_bytes:end]) == crc

        with ThreadPoolExecutor() as pool:
            return all(pool.map(fits, range(len(blocks))))

    def clear(self) -> None:
        """Starts anew, with new files: a run that still reads the old ones keeps them until it ends."""
        self.rows.unlink(missing_ok=True)
        self.index.unlink(missing_ok=True)
        self.where, self.index_bytes = {}, 0

    def reserve(self, rows: int) -> None:
        """Takes the disk space for more rows, so that a full disk is known before anything is computed."""
        self.before = len(self.where), self.index_bytes
        self.rows.touch()
        self.index.touch()
        self.trim()
        if not self.index_bytes:
            self._write_line(self.head)
        try:
            with self.rows.open("r+b") as file:
                os.posix_fallocate(file.fileno(), self.bytes, rows * self.row_bytes)
        except OSError:
            self.trim()
            raise

    def append(self, items: list[str], batch: Array) -> None:
        """Adds a block of rows: first the rows, then the line that makes them count."""
        if batch.shape != (len(items), *self.shape) or batch.dtype != self.dtype:
            raise ValueError(f"{self.dtype} {[len(items), *self.shape]} expected, got {batch.dtype} "
                             f"{list(batch.shape)}")
        content = np.ascontiguousarray(batch).reshape(-1).view(np.uint8)
        with self.rows.open("r+b") as file:
            file.seek(self.bytes)
            file.write(content.data)
        self._write_line({"items": items, "crc32": _checksum(items, content)})
        for item in items:
            self.where[item] = len(self.where)

    def forget(self) -> None:
        """Takes back what this process added."""
        rows, self.index_bytes = self.before
        self.where = {item: number for item, number in self.where.items() if number < rows}

    def trim(self) -> None:
        """Gives back the space behind the last whole block, which nobody has mapped."""
        os.truncate(self.rows, self.bytes)
        os.truncate(self.index, self.index_bytes)

    def open(self) -> tuple[Array, int]:
        """All rows, mapped, and a file descriptor that locks them for use; marks the store as just used."""
        os.utime(self.index)
        descriptor = os.open(self.rows, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return np.asarray(np.memmap(self.rows, self.dtype, "r", shape=(len(self.where), *self.shape))), descriptor

    def _write_line(self, values: dict[str, Any]) -> None:
        line = json.dumps(values).encode() + b"\n"
        with self.index.open("ab") as file:
            file.write(line)
        self.index_bytes += len(line)


def stores(folder: Path) -> list[Path]:
    """The stores in `folder`, the one used longest ago first."""
    return sorted((index.parent for index in folder.glob("*/index.jsonl")), key=_last_use)


def stored_bytes(store: Path) -> int:
    """Disk space of a store's rows, reserved space included."""
    with contextlib.suppress(FileNotFoundError):
        return (store / "rows.bin").stat().st_size
    return 0


def is_used(store: Path) -> bool:
    """Whether a process has the store's rows open."""
    with contextlib.suppress(FileNotFoundError), (store / "rows.bin").open("r+b") as file:
        return not _acquired(file)
    return False


def delete_unused(store: Path) -> None:
    """Deletes a store, unless some process fills or uses it."""
    with contextlib.suppress(FileNotFoundError), (store / "lock").open("r+b") as file:
        if _acquired(file) and not is_used(store):
            shutil.rmtree(store, ignore_errors=True)


def acquire(file: BinaryIO, waiting: Callable[[], object] = lambda: None) -> None:
    """Locks `file` exclusively until it is closed; the kernel closes it when the process ends, however it does."""
    if not _acquired(file):
        waiting()
        fcntl.flock(file, fcntl.LOCK_EX)


def _acquired(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_use(store: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return (store / "index.jsonl").stat().st_mtime
    return 0.0


def _checksum(items: list[str], content: Array) -> int:
    """CRC-32 of the rows and of the items they are for."""
    return zlib.crc32(content.data, zlib.crc32("\n".join(items).encode()))
