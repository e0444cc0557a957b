"""Rows of numbers kept on disk between runs: a frozen trunk's outputs, decoded pictures.

Everything but the pictures goes into the key of a store (data/row_store.py); its rows are looked up by picture, so runs
on other splits and folds share them. No file is trusted: every opening checks all bytes (zlib.crc32, 2.9 GB/s a core
here; sha256: 1.0), and a kill or a power cut at any moment costs what came after the last whole block, nothing else.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.row_store import Array, RowStore, acquire, delete_unused, is_used, stored_bytes, stores
from voc_cls.errors import DataError

FORMAT = 1
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Compute = Callable[[list[int]], Iterable[Array]]


@dataclass(frozen=True)
class Rows:
    """[N, …] on disk, in the order asked for: `rows[3]` and `rows[[7, 3]]` read just these, as from an array.

    As long as it lives, or a part of it, no process deletes the store to make room for others.
    """

    stored: Array
    """All rows of the store, memory-mapped, read-only."""
    positions: npt.NDArray[np.int64]
    """Where in it the N rows lie."""

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Any) -> Array:
        rows: Array = self.stored[self.positions[index]]
        return rows

    def part(self, index: Any) -> Rows:
        """Only the rows `index`, in that order; nothing is read."""
        return replace(self, positions=self.positions[index])

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, …)."""
        return len(self), *self.stored.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self.stored.dtype


def cached_rows(folder: Path, key: Mapping[str, Any], items: Sequence[str], shape: tuple[int, ...],
                dtype: npt.DTypeLike, compute: Compute, limit_bytes: float, title: str,
                say: Callable[[str], object]) -> Rows:
    """The rows of `items`, each [*shape] of `dtype` (bfloat16 too), from the store for `key` below `folder`.

    items: what each row is made of, such as the digest of a picture; equal items are computed once. key: JSON values,
    everything else that a row depends on. compute: gets the indices into `items` of the rows that are missing, and
    yields them in that order in batches of any size; each batch is kept from then on, whatever happens to the run.
    limit_bytes: of all stores in `folder` together; those used longest ago are deleted, none that is in use. title:
    what the rows are, for the lines that `say` gets: where they come from, and why if a store had to be rebuilt.

    Where another process fills the store, this one waits and takes what that one computed. DataError names the folder
    when the disk is full, the limit too low or the folder not writable; then nothing new is left on the disk.
    """
    head = json.loads(json.dumps({"format": FORMAT, "byteorder": sys.byteorder, "key": dict(key), "shape": shape,
                                  "dtype": np.dtype(dtype).name}))
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()
    store = RowStore(folder / digest[:20], head, shape, np.dtype(dtype))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with store.locked(lambda: say(f"{title}: waiting for another process that computes them")):
            damage = store.read()
            if damage:
                say(f"{title}: {store.path} is made anew, {damage}")
                store.clear()
            if all(item in store.where for item in items):
                say(f"{title}: {len(items):,} from the cache {store.path}")
            else:
                _fill(store, items, compute, limit_bytes, title, say)
            return _opened(store, items)
    except OSError as error:
        size = len(set(items)) * store.row_bytes / 1e9
        raise DataError(f"{folder}: {error.strerror or error}, while keeping {title} that need {size:.2f} GB; make "
                        "room there, or choose another folder with --cache-dir") from error


def file_digests(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of the content of each file, hexadecimal; DataError names one that cannot be read."""
    def digest(path: Path) -> str:
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error

    with ThreadPoolExecutor() as pool:
        return list(pool.map(digest, paths))


def _opened(store: RowStore, items: Sequence[str]) -> Rows:
    stored, lock = store.open()
    weakref.finalize(stored, os.close, lock)
    return Rows(stored, np.array([store.where[item] for item in items], np.int64))


def _fill(store: RowStore, items: Sequence[str], compute: Compute, limit_bytes: float, title: str,
          say: Callable[[str], object]) -> None:
    """Makes room for the rows that are missing and computes them."""
    with (store.path.parent / "lock").open("ab") as room:  # so that no two processes count on the same
        acquire(room)
        _make_room(store, items, limit_bytes, title)
        first = {item: number for number, item in reversed(list(enumerate(items)))}
        missing = sorted(number for item, number in first.items() if item not in store.where)
        store.reserve(len(missing))
    say(f"{title}: {len(items) - len(missing):,} from the cache, {len(missing):,} to compute and keep in {store.path} "
        f"({len(missing) * store.row_bytes / 1e9:.2f} GB)")
    done = 0
    try:
        for batch in compute(missing):
            store.append([items[number] for number in missing[done:done + len(batch)]], batch)
            done += len(batch)
        if done != len(missing):
            raise ValueError(f"{title}: {done} rows were computed where {len(missing)} were asked for")
    except OSError as error:
        if error.errno in DISK_FULL:
            store.forget()
        raise
    finally:
        store.trim()


def _make_room(store: RowStore, items: Sequence[str], limit_bytes: float, title: str) -> None:
    """Deletes stores that nobody uses, the one used longest ago first, until the missing rows fit."""
    wanted = len(set(items)) * store.row_bytes
    folder = store.path.parent
    others = [other for other in stores(folder) if other != store.path]

    def fits() -> bool:
        missing = len(set(items) - store.where.keys()) * store.row_bytes
        return sum(map(stored_bytes, others)) + store.bytes + missing <= limit_bytes

    for other in others if wanted <= limit_bytes else ():
        if not fits():
            delete_unused(other)
    if not fits() and wanted <= limit_bytes and not is_used(store.path):
        store.clear()  # it is full of other pictures
    if not fits():
        raise DataError(f"{folder}: {title} need {wanted / 1e9:.2f} GB, more than is left of the limit of "
                        f"{limit_bytes / 1e9:g} GB beside the caches in use; raise --cache-gb or end the other runs")
