"""Where the files of CIFAR-10 are: in the folder of one version, in the folder above, or still in the archive."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from voc_cls.data.files import check_file, read_bytes
from voc_cls.errors import DataError

BATCH_LIMIT = 2**29
"""Bytes a file may have; the official batches have 31 MB."""
MEMBERS_LIMIT = 1000
"""Entries an archive may have; the official ones have 9."""
PADDING_LIMIT = 2**20
"""Bytes that are read behind the last member; tar fills up to 10 kB."""
AGAIN = "fetch it again with `voc-data download cifar10`"
USAGE = "--root takes cifar-10-batches-py, cifar-10-batches-bin, the folder above, or the .tar.gz of either"


@dataclass(frozen=True)
class Version:
    """How the files of one version are called."""

    folder: str
    archive: str
    meta: str
    suffix: str


PYTHON = Version("cifar-10-batches-py", "cifar-10-python.tar.gz", "batches.meta", "")
BINARY = Version("cifar-10-batches-bin", "cifar-10-binary.tar.gz", "batches.meta.txt", ".bin")
VERSIONS = (PYTHON, BINARY)


@dataclass(frozen=True)
class Files:
    """The content of the wanted files: that with the names of the classes, and the batches in the order asked for."""

    version: Version
    source: Path
    meta: bytes
    batches: dict[str, bytes]

    def where(self, batch: str) -> str:
        """How an error names the file of a batch, or with "" that of the names."""
        return str(self.source / (batch + self.version.suffix if batch else self.version.meta))


def open_files(root: Path, batches: Sequence[str]) -> Files:
    """Reads the files of `batches` and the one with the names; DataError where one is missing, or cannot be read."""
    if root.is_dir():
        return _from_folder(root, batches)
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; {USAGE}")
    return _from_archive(root, batches)


def _from_folder(root: Path, batches: Sequence[str]) -> Files:
    """The folder itself, or the first of the versions in it."""
    for version in VERSIONS:
        for folder in (root, root / version.folder):
            if os.path.lexists(folder / version.meta):
                contents = [read_bytes(folder / name, BATCH_LIMIT) for name in _names(version, batches)]
                return Files(version, folder, contents[0], dict(zip(batches, contents[1:], strict=True)))
    archives = [root / version.archive for version in VERSIONS if (root / version.archive).exists()]
    found = ", ".join(sorted(os.listdir(root))[:8]) or "nothing"
    raise DataError(f"{root}: is no folder of CIFAR-10, it has neither {PYTHON.meta} nor {BINARY.meta} (found: "
                    f"{found}); {f'pass --root {archives[0]}' if archives else USAGE}")


def _from_archive(path: Path, batches: Sequence[str]) -> Files:
    """The files out of the archive, in memory: nothing is ever written under a name that an archive gives."""
    check_file(path)
    wanted = {f"{version.folder}/{name}": version for version in VERSIONS for name in _names(version, batches)}
    contents: dict[str, bytes] = {}
    try:
        with gzip.open(path) as content, tarfile.open(fileobj=content, mode="r:") as archive:
            for number, member in enumerate(archive):
                _check(path, member, number)
                name = member.name.removeprefix("./")
                if name not in wanted:
                    continue
                file = archive.extractfile(member) if member.isreg() else None
                if file is None or name in contents:
                    raise DataError(f"{path}: holds {name} {'twice' if file else 'as a link or device'}, as no archive "
                                    f"of CIFAR-10 does; {AGAIN}")
                contents[name] = file.read()
            content.read(PADDING_LIMIT)  # gzip compares its checksum at the very end
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: is cut short, damaged or no .tar.gz ({error}); {AGAIN}") from None
    except OSError as error:  # among them gzip.BadGzipFile
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); {AGAIN}") from None
    version = wanted[next(iter(contents))] if contents else PYTHON
    names = [f"{version.folder}/{name}" for name in _names(version, batches)]
    missing = [name for name in names if name not in contents]
    if missing:
        raise DataError(f"{path}: has no {missing[0]}; it is half a download or the archive of something else: {AGAIN}")
    return Files(version, path / version.folder, contents[names[0]],
                 {batch: contents[name] for batch, name in zip(batches, names[1:], strict=True)})


def _check(path: Path, member: tarfile.TarInfo, number: int) -> None:
    """Refuses what no archive of CIFAR-10 has, and what would never end."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"{path}: holds {member.name!r}, which leads out of its folder, as in no archive of CIFAR-10; "
                        f"{AGAIN}")
    if member.size > BATCH_LIMIT or number >= MEMBERS_LIMIT:
        raise DataError(f"{path}: holds {member.name!r} of {member.size:,} bytes as entry {number + 1:,}; no archive "
                        f"of CIFAR-10 has more than {BATCH_LIMIT:,} in one or {MEMBERS_LIMIT:,} entries: {AGAIN}")


def _names(version: Version, batches: Sequence[str]) -> list[str]:
    return [version.meta, *(batch + version.suffix for batch in batches)]
