"""Unpacking a `.tar` or `.tar.gz` from a stranger: looked at as a whole, written aside, then put into place.

Python's own extraction filter (PEP 706) refuses a bad member when it comes to it, with the others already written, and
knows no limit of size; so the names are read first.
"""

from __future__ import annotations

import filecmp
import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from voc_cls.errors import DataError

MOST_MEMBERS = 1_000_000
"""More names would be a bomb; the largest official archive, VOC2012's, has some 40,000."""
PIECE = 1 << 20


def unpack(archive: Path, folder: Path, limit: int, advance: Callable[[int], object] = lambda _: None) -> None:
    """Unpacks the archive into the new folder `folder`; calls `advance` with the bytes of each file.

    limit: bytes that the files may have together. DataError before anything is written: no whole archive, an absolute
    name or one with `..`, a link, a device, a file twice, more than `limit` bytes.
    """
    _check_members(archive, limit)
    with _opened(archive) as members:
        folder.mkdir(parents=True)
        for member in members:
            target = folder / PurePosixPath(member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            source = members.extractfile(member)
            assert source is not None  # it is a file
            with source, target.open("xb") as file:  # the archive's permissions and times do not matter
                shutil.copyfileobj(source, file, PIECE)
            advance(member.size)


def put_into_place(aside: Path, folder: Path, last: str) -> None:
    """Moves what `unpack` wrote at `aside` into `folder`, beside what other archives of the same set have left there.

    last: the file that makes the rest count, such as a split's list; it comes last, so after a kill it is missing.
    DataError, and nothing is moved, where another file stands under one of the names.
    """
    for entry in sorted(aside.iterdir()):
        if not (folder / entry.name).exists():
            entry.rename(folder / entry.name)
            continue
        names = sorted(path.relative_to(aside) for path in entry.rglob("*") if path.is_file())
        names.sort(key=lambda name: name == Path(last))
        for name in names:
            target = folder / name
            if target.exists() and not (target.is_file() and filecmp.cmp(aside / name, target, shallow=False)):
                raise DataError(f"{target}: stands there with another content than the archive's; remove it, or unpack "
                                "into another folder with --out")
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(aside / name, folder / name)


def _check_members(archive: Path, limit: int) -> None:
    files: set[PurePosixPath] = set()
    size = 0
    with _opened(archive) as members:
        for number, member in enumerate(members):
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts or "\\" in member.name or not member.name.isprintable():
                raise _refused(archive, f"holds the name {member.name!r}, which leads out of the folder or is no plain "
                                        "name")
            if not (member.isfile() or member.isdir()):
                kind = "a link" if member.issym() or member.islnk() else "a device or a pipe"
                raise _refused(archive, f"holds {member.name!r}, {kind}, where only files and folders belong")
            if member.isfile() and name in files:
                raise _refused(archive, f"holds {member.name!r} twice")
            if member.isfile():
                files.add(name)
            size += member.size
            if size > limit or number >= MOST_MEMBERS:
                raise _refused(archive, f"claims more than {limit:,} bytes or {MOST_MEMBERS:,} files unpacked")
    if not files:
        raise _refused(archive, "holds no file")
    inner = next((name for name in files if any(parent in files for parent in name.parents)), None)
    if inner is not None:
        raise _refused(archive, f"holds {str(inner)!r} inside of something that is a file itself")


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive) as members:
            yield members
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, UnicodeError) as error:
        reason = str(error).splitlines()[-1].strip("- ")  # where nothing fits, tarfile tells of each format it tried
        raise DataError(f"{archive}: is no whole .tar or .tar.gz ({reason}); fetch it again") from error


def _refused(archive: Path, found: str) -> DataError:
    return DataError(f"{archive}: {found}; nothing was unpacked, fetch the official archive")
