"""Files in object stores, such as s3://bucket/images, read through fsspec, which knows the protocols.

The paths of command lines and configurations are pathlib's, which makes s3:/bucket of s3://bucket.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from voc_cls.errors import DownloadError, VocError

FETCHED_AT_ONCE = 32
"""Images, each by a thread: a request to S3 takes some 50 ms, however small the file."""


def store_url(path: Path | str) -> str:
    """The URL as which a path was given; empty for a path on this machine."""
    match = re.fullmatch(r"([a-z][a-z0-9+.-]+):/+(.+)", str(path))
    return "" if match is None else f"{match[1]}://{'/' if match[1] == 'file' else ''}{match[2]}"


@contextlib.contextmanager
def opened(url: str) -> Iterator[tuple[Any, str]]:
    """fsspec's file system for a URL, and the path in it.

    What is raised within becomes a DownloadError; ModuleNotFoundError without the extra `s3`.
    """
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(url)
        files.invalidate_cache()  # or its listings would be those of the last time
        yield files, path
    except VocError:
        raise
    except Exception as error:  # of many kinds
        if getattr(error.__cause__, "name", None) == "s3fs":
            raise ModuleNotFoundError(str(error), name="s3fs") from None
        raise DownloadError(f"{url} cannot be read ({' '.join(str(error).split()) or type(error).__name__}): check the "
                            "address and the credentials, and that the store can be reached") from error


def local_batches(paths: Sequence[Path], copies: Path, failures: dict[int, str]) -> Iterator[Sequence[Path]]:
    """The paths in batches of local ones: a URL's file is in `copies`/POSITION until the next batch is taken.

    Without URLs, all are one batch. failures: gets why a file cannot be read, by its position.
    """
    def fetch(position: int) -> Path:
        if not (url := store_url(paths[position])):
            return paths[position]
        copy = copies / str(position)
        try:
            with opened(url) as (files, path):
                files.get_file(path, str(copy))
        except DownloadError as error:
            failures[position] = str(error)
        return copy

    if not any(map(store_url, paths)):
        yield paths
        return
    with ThreadPool(FETCHED_AT_ONCE) as pool:
        for start in range(0, len(paths), FETCHED_AT_ONCE):
            yield pool.map(fetch, range(len(paths))[start:start + FETCHED_AT_ONCE])
            for copy in copies.iterdir():
                copy.unlink()
