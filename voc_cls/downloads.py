"""One file over HTTP, carried on where a broken download stopped."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from voc_cls.errors import DownloadError

TIMEOUT_S = (10, 30)
"""Seconds to connect, and between two pieces of the body."""
BREAKS = 5
"""How often one call takes up a download that broke off before it gives up; the next call takes it up again."""
PIECE = 1 << 16


class _BrokenOffError(Exception):
    """The body ended early, or has to be asked for once more."""


def download(url: str, to: Path, magic: bytes = b"", size: int | None = None, pause_s: float = 1.0) -> None:
    """Downloads `url` to the file `to`, with a progress bar on a terminal.

    What has arrived lies in `to`.part, and beside it what identifies the version it belongs to (ETag or
    Last-Modified). A later call asks for the rest on condition that the file is still that one (RFC 9110, If-Range);
    a server that cannot do that sends it whole. magic and size: the bytes the file must begin with, and how many it
    must have where that is known, so that an HTML page is refused at once. pause_s: seconds before a download is taken
    up again, doubled each time. Raises DownloadError.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(BREAKS + 1):
        try:
            _fetch_rest(url, to, magic, size)
        except _BrokenOffError as broken:
            if attempt == BREAKS:
                raise DownloadError(f"{url}: the download broke off {BREAKS + 1} times ({broken}); what arrived is "
                                    "kept, run the command again to carry on") from broken
            time.sleep(pause_s * 2**attempt)
        else:
            _part(to).rename(to)
            _validator(to).unlink(missing_ok=True)
            return


def discard(to: Path) -> None:
    """Removes a download and what is kept for carrying it on."""
    for file in (to, _part(to), _validator(to)):
        file.unlink(missing_ok=True)


def _part(to: Path) -> Path:
    return to.with_name(f"{to.name}.part")


def _validator(to: Path) -> Path:
    return to.with_name(f"{to.name}.part.version")


def _fetch_rest(url: str, to: Path, magic: bytes, size: int | None) -> None:
    """One request; returns when the file is complete, raises _BrokenOffError when it makes sense to ask again."""
    part, version = _part(to), _validator(to)
    known = version.read_text() if version.is_file() else ""
    have = part.stat().st_size if known and part.is_file() else 0
    if have and have == size:  # killed before it got its name; servers answer 416 to being asked for nothing
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    with _answer(url, headers) as response:
        if response.status_code == 416:  # more is there than the file has: it is another one by now
            discard(to)
            raise _BrokenOffError("the file on the server has become shorter")
        if response.status_code not in (200, 206):
            raise DownloadError(f"{url}: the server answered {response.status_code} {response.reason}; give the "
                                "address of a mirror with --url, or the file with --archive")
        resumed = response.status_code == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            discard(to)
            raise _BrokenOffError("the server sent another part than was asked for")
        have = have if resumed else 0
        if not resumed:
            version.write_text(_strong_validator(response.headers))
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        most = size or sys.maxsize
        with part.open("ab" if resumed else "wb") as file, _progress(to.name.lstrip("."), have, total) as advance:
            for piece in _pieces(response):
                if file.tell() == 0 and not (piece.startswith(magic) and (size is None or total in (None, size))):
                    discard(to)
                    raise _wrong_file(url, response, total if size else None, piece)
                if file.tell() + len(piece) > most:
                    discard(to)
                    raise DownloadError(f"{url} is not the file it should be: it has more than {most:,} bytes; give "
                                        "another address with --url, or the file with --archive")
                file.write(piece)
                advance(len(piece))
        expected = total if total is not None else size
        if expected is not None and part.stat().st_size != expected:
            raise _BrokenOffError(f"{part.stat().st_size:,} of {expected:,} bytes arrived")


def _wrong_file(url: str, response: Any, total: int | None, start: bytes) -> DownloadError:
    kind = response.headers.get("Content-Type", "something")
    length = "" if total is None else f" of {total:,} bytes"
    return DownloadError(f"{url} is not the file it should be: the server sent {kind}{length} that begins with "
                         f"{start[:20]!r}; does a proxy or a login page stand between?")


@contextlib.contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[Any]:
    """The response, its body not yet read; DownloadError when there is none."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    retry = Retry(total=3, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False,
                  respect_retry_after_header=False)  # a server may ask for hours
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        try:
            response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
        except (requests.RequestException, ValueError) as error:
            found = re.search(r"\[Errno [^\]]*\] [^'\"()]+|timed out|CERTIFICATE_VERIFY_FAILED", str(error))
            raise DownloadError(f"{url}: {urlsplit(url).hostname or 'the server'} cannot be reached "
                                f"({found.group() if found else error}); check the network or the proxy settings, give "
                                "another address with --url, or bring the file and give it with --archive") from error
        with response:
            yield response


def _pieces(response: Any) -> Iterator[bytes]:
    """The body as it came over the wire; `.tar.gz` sent as Content-Encoding gzip stays a `.tar.gz`."""
    from urllib3.exceptions import HTTPError

    try:
        yield from response.raw.stream(PIECE, decode_content=False)
    except (HTTPError, OSError) as error:
        raise _BrokenOffError(str(error)) from error


def _strong_validator(headers: Any) -> str:
    """What If-Range may name (RFC 9110, 13.1.5): a strong ETag, else the date of the last change, else nothing."""
    etag = str(headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(headers.get("Last-Modified", ""))


@contextlib.contextmanager
def _progress(name: str, have: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar with size, speed and time left, on a terminal only; yields what is told of each piece."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total, completed=have)
        yield lambda size: progress.advance(task, size)
