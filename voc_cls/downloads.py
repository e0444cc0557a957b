"""Files over HTTP: carried on where a broken download stopped, checked, and archives unpacked."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import sys
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from voc_cls.errors import DownloadError

if TYPE_CHECKING:
    from rich.console import Console

TIMEOUT_S = (10, 30)
"""Seconds to connect, and between two pieces of the body."""
BREAKS = 5
"""How often one call takes up a download that broke off before it gives up; the next call takes it up again."""
BUSY = (429, 500, 502, 503, 504)
"""Answers after which a server is asked again."""
PIECE = 1 << 16
CHECKPOINT_FILE = re.compile(r"(?<=\.ckpt)\.(index|data-\d{5}-of-\d{5})$")
"""What the files of a TensorFlow checkpoint have behind its name."""
MOST_MEMBERS = 1_000_000
"""More names in an archive would be a bomb; the largest official one, VOC2012's, has some 40,000."""


class _BrokenOffError(Exception):
    """The body ended early, or has to be requested again."""


@contextlib.contextmanager
def fetched(url: str, to: Path, local: Path | None = None, magic: bytes = b"", size: int | None = None,
            sha256: str | None = None, console: Console | None = None) -> Iterator[Path]:
    """A checked file, downloaded as by `download` or brought by hand (`local`), for the time of a `with` block.

    What is at `to` already is not downloaded again. A download is removed after the block, also where it turns out to
    be wrong (DownloadError in the block), so that the next call fetches it again. Other errors, such as a full disk,
    leave it.
    """
    file = local or to
    if local is None and not to.exists():
        download(url, to, magic, size, console=console)
    try:
        if sha256 is not None:
            check_sha256(file, sha256)
        yield file
    except DownloadError:
        if local is None:
            discard(to)
        raise
    if local is None:
        discard(to)


def download(url: str, to: Path, magic: bytes = b"", size: int | None = None, pause_s: float = 1.0,
             console: Console | None = None) -> None:
    """Downloads `url` to the file `to`, whole or not at all; its folder is made.

    What has arrived lies in `to`.part, and beside it what identifies the version it belongs to (ETag or
    Last-Modified). A later call asks for the rest on condition that the file is still that one (RFC 9110, If-Range);
    a server that cannot do that sends it whole.

    magic: bytes that the file must begin with, so that an HTML page is refused at once. size: bytes that it must have,
    if known. pause_s: seconds before a broken download is taken up again, doubled each time. console: for a progress
    bar, if it is a terminal. DownloadError where it does not come, or is another file.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(BREAKS + 1):
        try:
            _fetch_rest(url, to, magic, size, console)
        except _BrokenOffError as broken:
            if attempt == BREAKS:
                raise DownloadError(f"{url}: the download broke off {BREAKS + 1} times ({broken}); what arrived is "
                                    "kept, run the command again to carry on") from broken
            time.sleep(pause_s * 2**attempt)
        else:
            _part(to).rename(to)
            _validator(to).unlink(missing_ok=True)
            return


def check_sha256(file: Path, expected: str) -> None:
    """DownloadError unless the content of `file` has this digest, in hexadecimal digits."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != expected.lower():
        raise DownloadError(f"{file}: has {file.stat().st_size:,} bytes and the SHA-256 {digest}, expected "
                            f"{expected.lower()}; it is damaged or another file, fetch it again")


def unpack(archive: Path, folder: Path, limit: int, advance: Callable[[int], object] = lambda _: None,
           only: str | None = None) -> None:
    """Unpacks a `.tar` or `.tar.gz` from a stranger by Python's own extraction filter (PEP 706).

    Where it fails, files may stay in `folder`: take an empty one, and remove it. limit: bytes that the files may have
    together, against bombs. advance: takes the bytes of each file. only: what is wanted alone: a file by its path in
    the archive, or a checkpoint of several files. DownloadError for an archive that is damaged, too large, has a link
    or a device in it, a name that leads out of the folder, or not the wanted file.
    """
    names, size, wanted = [], 0, 0
    try:
        with tarfile.open(archive) as members:
            for member in members:
                names.append(member.name)
                if len(names) > MOST_MEMBERS:
                    raise DownloadError(f"{archive}: has more than {MOST_MEMBERS:,} files; fetch the official archive")
                if only is not None and CHECKPOINT_FILE.sub("", member.name.removeprefix("./")) != only:
                    continue
                if not (member.isfile() or member.isdir()):
                    raise DownloadError(f"{archive}: has {member.name!r} in it, which is not a file or a folder; fetch "
                                        "the official archive")
                size += member.size
                if size > limit:
                    raise DownloadError(f"{archive}: claims more than {limit:,} bytes unpacked; fetch the "
                                        "official archive")
                members.extract(member, folder, filter="data")
                wanted += member.isfile()
                advance(member.size)
            while members.fileobj is not None and members.fileobj.read(PIECE):  # for the checksum at the end of a .gz
                pass
    except tarfile.FilterError as error:
        raise DownloadError(f"{archive}: has {error.tarinfo.name!r} in it, which leads out of the folder; fetch the "
                            "official archive") from error
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, UnicodeError) as error:
        reason = re.sub(r".*\('|'\).*|- ", "", str(error).splitlines()[-1])  # tarfile tells of each format it tried
        raise DownloadError(f"{archive}: is not a whole .tar or .tar.gz ({reason}); fetch it again") from error
    if only is not None and not wanted:
        raise DownloadError(f"{archive}: has no {only} in it, only {', '.join(names[:5]) or 'nothing'}; fetch the "
                            "official archive")


def discard(to: Path) -> None:
    """Removes a download and what is kept for carrying it on."""
    for file in (to, _part(to), _validator(to)):
        file.unlink(missing_ok=True)


def _part(to: Path) -> Path:
    return to.with_name(f"{to.name}.part")


def _validator(to: Path) -> Path:
    return to.with_name(f"{to.name}.part.version")


def _fetch_rest(url: str, to: Path, magic: bytes, size: int | None, console: Console | None) -> None:
    """One request; returns when the file is complete, raises _BrokenOffError when it makes sense to ask again."""
    part, version = _part(to), _validator(to)
    known = version.read_text() if version.is_file() else ""
    have = part.stat().st_size if known and part.is_file() else 0
    if have and have == size:  # killed before the rename; servers answer 416 to an empty range
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    with _answer(url, headers) as response:
        if response.status_code == 416:  # more is there than the file has: it is another one by now
            discard(to)
            raise _BrokenOffError("the file on the server has become shorter")
        if response.status_code in BUSY:
            raise _BrokenOffError(f"the server answered {response.status_code} {response.reason}")
        if response.status_code not in (200, 206):
            raise DownloadError(f"{url}: the server answered {response.status_code} {response.reason}; give the "
                                "address of a mirror with `url`, or the file with `archive`")
        resumed = response.status_code == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            discard(to)
            raise _BrokenOffError("the server sent another part than the requested one")
        have = have if resumed else 0
        if not resumed:
            etag = str(response.headers.get("ETag", ""))  # If-Range may name a strong one only (RFC 9110, 13.1.5)
            version.write_text(etag if etag.startswith('"') else str(response.headers.get("Last-Modified", "")))
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        most = size or sys.maxsize
        with (part.open("ab" if resumed else "wb") as file,
              byte_bar(to.name.lstrip("."), total, console, have) as advance):
            for piece in _pieces(response):
                if file.tell() == 0 and not (piece.startswith(magic) and (size is None or total in (None, size))):
                    discard(to)
                    length = f" of {total:,} bytes" if size and total is not None else ""
                    raise DownloadError(
                        f"{url} is not the file it should be: the server sent "
                        f"{response.headers.get('Content-Type', 'something')}{length} that begins with "
                        f"{piece[:20].decode(errors='replace')!r}; does a proxy or a login page stand between?")
                if file.tell() + len(piece) > most:
                    discard(to)
                    raise DownloadError(f"{url} is not the file it should be: it has more than {most:,} bytes; give "
                                        "another address with `url`, or the file with `archive`")
                file.write(piece)
                advance(len(piece))
        expected = total if total is not None else size
        if expected is not None and part.stat().st_size != expected:
            raise _BrokenOffError(f"{part.stat().st_size:,} of {expected:,} bytes arrived")


def _answer(url: str, headers: dict[str, str]) -> Any:
    """The response, its body not yet read; DownloadError when there is none."""
    import requests

    try:
        return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except (requests.RequestException, ValueError) as error:
        found = re.search(r"(?<=\] )[^'\"()\[]+|timed out|CERTIFICATE_VERIFY_FAILED", str(error))
        raise DownloadError(f"{url}: {urlsplit(url).hostname or 'the server'} cannot be reached "
                            f"({found.group() if found else error}); check the network or the proxy settings, give "
                            "another address with `url`, or bring the file and give it with `archive`") from error


def _pieces(response: Any) -> Iterator[bytes]:
    """The body as it came over the wire; `.tar.gz` sent as Content-Encoding gzip stays a `.tar.gz`."""
    from urllib3.exceptions import HTTPError

    try:
        yield from response.raw.stream(PIECE, decode_content=False)
    except (HTTPError, OSError) as error:
        raise _BrokenOffError(str(error)) from error


@contextlib.contextmanager
def byte_bar(title: str, total: int | None, console: Console | None,
             done: int = 0) -> Iterator[Callable[[int], object]]:
    """A bar with size, speed and time left, if `console` is a terminal, of which `done` of `total` bytes are there.

    Yields a function that takes the number of bytes of each further piece.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TextColumn("left"), TimeRemainingColumn())
    shown = console is not None and console.is_terminal and not console.is_dumb_terminal
    with Progress(*columns, console=console, disable=not shown) as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda size: progress.advance(task, size)
