"""Arrays kept on disk between runs: the features of a frozen backbone, decoded images.

The cache has a folder for everything that a row depends on but the image (a key), and in it blocks: .npy files that
hold some hundred rows and their names. A block is written aside and renamed, and never changes afterwards: a kill at
any moment leaves whole blocks only. A run maps the blocks it reads, so that it keeps its rows when another run deletes
them to make room. A block that is damaged is deleted and its rows are computed again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.errors import DataError
from voc_cls.files import locked, write_aside

Array = npt.NDArray[Any]

FORMAT = 3
"""Raised also when images are decoded in another way; 3: upright by EXIF, transparent parts on white."""
BLOCK_BYTES = 128e6
"""Rows are written when they are so many: each block that is read takes one open file."""
BLOCK_SECONDS = 120.0
"""… or when the first of them is so old: what a kill costs at most."""


@dataclass(frozen=True)
class CachedRows:
    """[N, …] on disk, in the order asked for: `rows[3]` and `rows[[7, 3]]` read just these, as from an array."""

    blocks: tuple[Array, ...]
    """Memory-mapped, read-only."""
    positions: npt.NDArray[np.int64]
    """[N, 2]: the block of each row, and its place there."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Any) -> Array:
        picked = self.positions[index]
        pairs = picked.reshape(-1, 2).tolist()
        rows = np.empty((len(pairs), *self.shape[1:]), self.dtype)
        for number, (block, place) in enumerate(pairs):
            rows[number] = self.blocks[block][place]
        return rows.reshape(*picked.shape[:-1], *self.shape[1:])

    def part(self, index: Any) -> CachedRows:
        """Only the rows `index`, in that order; nothing is read."""
        positions = self.positions[index]
        return replace(self, positions=positions, shape=(len(positions), *self.shape[1:]))


def vectors(rows: CachedRows | Array) -> npt.NDArray[np.float32]:
    """The means of grids [N, …, D] over their places, in memory, [N, D]."""
    return np.stack([np.asarray(rows[row], np.float32).reshape(-1, rows.shape[-1]).mean(axis=0)
                     for row in range(len(rows))])


@dataclass(frozen=True)
class FeatureCache:
    """A folder for blocks, the space that all of them may take (GB), and who is told where rows come from."""

    folder: Path
    limit_gb: float
    report: Callable[[str], object]

    def rows(self, key: Mapping[str, Any], names: Sequence[str], shape: tuple[int, ...], dtype: npt.DTypeLike,
             compute: Callable[[list[int]], Iterable[Array]], title: str) -> CachedRows:
        """The rows called `names`, each [*shape] of `dtype`, from the cache as far as they are in it.

        A name says what its row is made of, such as the digest of an image; `key`, JSON values, everything else that
        rows depend on; `title`, for messages, what they are. `compute` gets the indices of the names whose rows are
        missing, and yields these in batches of any size; what it has yielded when it raises is kept. Where another
        process computes rows for the same key, this one waits and takes them. DataError names the folder when the disk
        is full, the limit too low or the folder not writable.
        """
        store, digests = self._store(key, shape, dtype), [_digest(name) for name in names]
        try:
            store.path.mkdir(parents=True, exist_ok=True)
            with locked(store.path, lambda: self.report(f"{title}: waiting for another process that computes them")):
                self._read(store, title)
                if all(digest in store.positions for digest in digests):
                    self.report(f"{title}: {len(names):,} from the cache {store.path}")
                else:
                    self._compute(store, digests, compute, title)
                return store.rows(digests)
        except OSError as error:
            size = len(set(digests)) * store.row_bytes / 1e9
            raise DataError(f"{self.folder}: {error.strerror or error}, while keeping {title} that need {size:.2f} GB; "
                            "make room there, or choose another folder with `cache_dir`") from error

    def missing(self, key: Mapping[str, Any], names: Sequence[str], shape: tuple[int, ...], dtype: npt.DTypeLike,
                title: str) -> int:
        """How many rows `rows` would have computed."""
        store = self._store(key, shape, dtype)
        self._read(store, title)
        return len(store.missing([_digest(name) for name in names]))

    def _store(self, key: Mapping[str, Any], shape: tuple[int, ...], dtype: npt.DTypeLike) -> _Store:
        kind = json.dumps({"format": FORMAT, "byteorder": sys.byteorder, "key": key, "shape": shape,
                           "dtype": np.dtype(dtype).name}, sort_keys=True)
        return _Store(self.folder / _digest(kind)[:20], shape, np.dtype(dtype))

    def _read(self, store: _Store, title: str) -> None:
        for damaged in store.read():
            self.report(f"{title}: {damaged} is damaged and computed again")

    def _compute(self, store: _Store, digests: Sequence[str], compute: Callable[[list[int]], Iterable[Array]],
                 title: str) -> None:
        whole = len(set(digests)) * store.row_bytes
        if whole > self.limit_gb * 1e9:
            raise DataError(f"{self.folder}: {title} need {whole / 1e9:.2f} GB, more than the limit of "
                            f"{self.limit_gb:g} GB; raise `cache_gb`")
        missing = store.missing(digests)
        if not self._make_room(len(missing) * store.row_bytes, store.used(digests)):
            store.clear()  # its blocks are full of other images
            missing = store.missing(digests)
            self._make_room(whole, set())
        size = len(missing) * store.row_bytes
        with tempfile.TemporaryFile(dir=store.path):  # what cannot be kept is known before anything is computed
            if size > shutil.disk_usage(store.path).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.report(f"{title}: {len(digests) - len(missing):,} from the cache, {len(missing):,} to compute and keep in "
                    f"{store.path} ({size / 1e9:.2f} GB)")
        done, started = 0, time.monotonic()
        pending: list[Array] = []

        def write() -> None:
            nonlocal done, started
            batches = pending[:]
            pending.clear()
            start, done = done, done + sum(len(batch) for batch in batches)
            store.write([digests[number] for number in missing[start:done]], batches)
            started = time.monotonic()

        try:
            for batch in compute(missing):
                pending.append(batch)
                if sum(part.nbytes for part in pending) >= BLOCK_BYTES or time.monotonic() - started >= BLOCK_SECONDS:
                    write()
        finally:
            write()
        if done != len(missing):
            raise ValueError(f"{title}: {done} rows were computed where {len(missing)} are missing")

    def _make_room(self, size: int, kept: set[Path]) -> bool:
        """Deletes the blocks used longest ago, but none of `kept`, until there is room for `size` bytes more."""
        blocks = []
        for path in self.folder.glob("*/*block-*.npy"):  # those that a killed process has half written, too
            with contextlib.suppress(FileNotFoundError):  # another process has just deleted it
                blocks.append((path.stat().st_mtime, path.stat().st_size, path))
        room = self.limit_gb * 1e9 - sum(bytes_ for _, bytes_, _ in blocks)
        for _, bytes_, path in sorted(blocks):
            if room < size and path not in kept:
                path.unlink(missing_ok=True)
                room += bytes_
        return room >= size


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class _Store:
    """The blocks for one key."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    positions: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Digest of a row's name → its block and place."""
    blocks: list[Array] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def read(self) -> Iterator[Path]:
        """Maps all blocks; yields those that are damaged, which are gone then."""
        for path in sorted(self.path.glob("block-*.npy")):
            try:
                self._map(path)
            except FileNotFoundError:
                continue  # another process has just deleted it
            except (ValueError, EOFError, IndexError):
                path.unlink(missing_ok=True)
                yield path

    def _map(self, path: Path) -> None:
        # NumPy checks the file's size; names and rows are one record, so that they cannot be of different blocks
        record = np.load(path, mmap_mode="r")
        names, rows = record["names"][0], record["rows"][0]
        if rows.dtype != np.uint8 or rows.shape != (len(names), self.row_bytes):
            raise ValueError(f"{path}: {rows.dtype} {rows.shape}")
        for place, name in enumerate(names.tolist()):
            self.positions[name.decode("ascii")] = len(self.blocks), place
        self.blocks.append(rows.view(self.dtype).reshape(-1, *self.shape))
        self.paths.append(path)

    def write(self, names: list[str], batches: list[Array]) -> None:
        if not batches:
            return
        rows = np.concatenate(batches)
        if rows.shape != (len(names), *self.shape) or rows.dtype != self.dtype:
            raise ValueError(f"{self.dtype} {[len(names), *self.shape]} expected, got {rows.dtype} {list(rows.shape)}")
        record = np.empty(1, [("names", "S64", (len(names),)), ("rows", np.uint8, (len(names), self.row_bytes))])
        record["names"][0] = names
        record["rows"][0].view(self.dtype).reshape(-1, *self.shape)[:] = rows

        def save(aside: Path) -> None:
            with aside.open("wb") as file:
                # np.save would lose the end without an error where the disk is full: C's fclose is not checked
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(record))
                file.write(record.view(np.uint8).data)
                file.flush()
                os.fsync(file.fileno())

        path = self.path / f"block-{uuid.uuid4().hex}.npy"
        write_aside(path, save)
        self._map(path)

    def missing(self, digests: Sequence[str]) -> list[int]:
        """Where in `digests` the rows stand that are not there, each once."""
        first = {digest: number for number, digest in reversed(list(enumerate(digests)))}
        return sorted(number for digest, number in first.items() if digest not in self.positions)

    def clear(self) -> None:
        for path in self.paths:
            path.unlink(missing_ok=True)
        self.positions, self.blocks, self.paths = {}, [], []

    def used(self, digests: Sequence[str]) -> set[Path]:
        """The blocks that have some of these rows."""
        return {self.paths[self.positions[digest][0]] for digest in digests if digest in self.positions}

    def rows(self, digests: Sequence[str]) -> CachedRows:
        """These rows; marks their blocks as just used."""
        for path in self.used(digests):
            with contextlib.suppress(OSError):  # deleted by another process, or of somebody else: no matter
                os.utime(path)
        positions = np.array([self.positions[digest] for digest in digests], np.int64).reshape(-1, 2)
        wanted, positions[:, 0] = np.unique(positions[:, 0], return_inverse=True)
        return CachedRows(tuple(self.blocks[block] for block in wanted), positions, (len(positions), *self.shape),
                          self.dtype)
