"""Files written whole or not at all, files known by their content, and where those are that can be had again."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voc_cls.errors import DataError, RunError, UsageError, reason


def check_target(name: str, file: Path | None, suffix: str = "") -> None:
    """UsageError for a file to write, of the setting `name`, whose folder is not there or whose suffix is another."""
    if file is not None and suffix and file.suffix.lower() != suffix:
        raise UsageError(f"`{name}` {file} must end in {suffix}")
    if file is not None and not file.absolute().parent.is_dir():
        raise UsageError(f"`{name}` {file}: the folder {file.parent} does not exist; make it first")


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a neighbour of `path` that has the same suffixes, then renames it: a kill at any moment
    leaves the old file or the new one. OSError as from the file system."""
    aside = path.with_name(f".aside-{os.getpid()}-{path.name}")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text`, UTF-8, whole or not at all."""
    # surrogateescape: a file name is bytes, and need not be UTF-8
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8", errors="surrogateescape"))


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes `values` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file of a run holds; None if there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({reason(error)}); delete it or repeat the run") from error


def write_csv(path: Path, heading: Sequence[str], rows: Iterable[Sequence[object]],
              line_end: str = "\r\n") -> None:
    """Writes `heading` and `rows` as a CSV, whole or not at all."""
    def write(aside: Path) -> None:
        with aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator=line_end)
            writer.writerow(heading)
            writer.writerows(rows)

    write_aside(path, write)


def file_digests(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of the content of each file, hexadecimal; DataError names one that cannot be read."""
    def digest(path: Path) -> str:
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); look at its permissions and at "
                            "the disk") from error

    with ThreadPoolExecutor() as pool:
        return list(pool.map(digest, paths))


@contextmanager
def locked(folder: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Only one process at a time; the kernel unlocks when a process ends, however it does.

    waiting: told that another process has the lock; what it raises is raised, otherwise it is waited for.
    """
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def cache_folder(given: Path | None = None) -> Path:
    """`given`, else $VOC_CACHE_DIR, else voc-cls in the user's cache folder ($XDG_CACHE_HOME, else ~/.cache)."""
    if given is not None:
        return given
    own = os.environ.get("VOC_CACHE_DIR")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voc-cls"


def weights_folder() -> Path:
    """Where fetched weights are kept: $VOC_CLS_HOME/weights, else weights in the cache folder."""
    return Path(os.environ.get("VOC_CLS_HOME") or cache_folder()) / "weights"
