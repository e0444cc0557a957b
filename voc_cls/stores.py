"""Files in object stores, such as s3://bucket/images, read through fsspec, which knows the protocols; MLflow's server.

The paths of command lines and configurations are pathlib's, which makes s3:/bucket of s3://bucket.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from voc_cls.errors import DownloadError, VocError, reason

SQLITE = "sqlite:///"
MLFLOW = {  # where the environment says nothing else
    "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow would report its use over the network
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # or it prints lines about each new database
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with its password, and beside our JSON
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds, and one retry; with MLflow's own 120 and 7 a training would stop
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
FETCHED_AT_ONCE = 32
"""Images, each by a thread: a request to S3 takes some 50 ms, however small the file."""


def store_url(path: Path | str) -> str:
    """The URL as which a path was given; empty for a path on this machine."""
    match = re.fullmatch(r"([a-z][a-z0-9+.-]+):/+(.+)", str(path))
    return "" if match is None else match[1] + {"file": ":///", "models": ":/"}.get(match[1], "://") + match[2]


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
        raise DownloadError(f"{url} cannot be read ({reason(error).partition(' (')[0]}): check the address "
                            "and the credentials, and that the store can be reached") from error


def tracking_uri(given: str = "auto") -> str:
    """MLflow's tracking URI, of a file with its whole path; auto: $MLFLOW_TRACKING_URI, otherwise mlflow.db here."""
    uri = given if given != "auto" else os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}" if uri.startswith(SQLITE) else uri


def masked(text: str) -> str:
    """A text with URIs, their passwords as ***: http://me:***@tracking:5000."""
    return re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", text)


@contextlib.contextmanager
def connected(uri: str) -> Iterator[Any]:
    """The module mlflow, which uses this URI from now on; what is raised within becomes a DownloadError.
    ModuleNotFoundError without the extra `mlflow`."""
    for name, value in MLFLOW.items():
        os.environ.setdefault(name, value)
    import mlflow

    try:
        mlflow.set_tracking_uri(uri)
        yield mlflow
    except (VocError, ModuleNotFoundError):
        raise
    except Exception as error:  # of many kinds
        text = reason(error).partition(" with exception")[0]
        raise DownloadError(masked(f"MLflow at {uri}: {text}; check the address and that it can be reached")) from error


def registered_model(path: Path | str) -> tuple[str, str] | None:
    """("voc", "3") of models:/voc/3, ("voc", "best") of models:/voc@best, ("voc", "") of models:/voc; or None."""
    match = re.fullmatch(r"models:/+([^/@]+)(?:/latest|[/@](.+))?", str(path))
    return match and (match[1], match[2] or "")


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
