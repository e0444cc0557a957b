"""One checkpoint out of a `.tar.gz` that comes over HTTP, as TF-Slim publishes its models."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from voc_cls.downloads import discard, download
from voc_cls.errors import WeightsError

GZIP_MAGIC = b"\x1f\x8b"
LARGEST = 2 << 30
"""Bytes of an unpacked checkpoint; what claims more is a bomb. VGG-16's has 553 MB."""


@dataclass(frozen=True)
class Archive:
    """A `.tar.gz` on a server, and the one file wanted from it."""

    url: str
    member: str
    """Name of the v1 checkpoint inside, at the top."""
    sha256: str | None = None
    """Of the archive, where somebody knows it."""

    def write(self, checkpoint: Path, local: Path | None = None) -> None:
        """Puts the member at `checkpoint`; the download lies beside that file's folder until it is unpacked.

        local: the archive, where it need not be downloaded; it is left as it is. Raises WeightsError.
        """
        name = PurePosixPath(urlsplit(self.url).path).name
        archive = local or checkpoint.parent.parent / f".{name}"  # hidden: a visible one is somebody's, not ours
        if not archive.exists():
            download(self.url, archive, GZIP_MAGIC)
        try:
            self._check_digest(archive)
            self._unpack(archive, checkpoint)
        except WeightsError:  # the archive is at fault: the next call fetches it anew
            if local is None:
                discard(archive)
            raise
        if local is None:
            discard(archive)

    def _check_digest(self, archive: Path) -> None:
        if self.sha256 is None:
            return
        with archive.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != self.sha256.lower():
            raise WeightsError(f"{archive} has the SHA-256 {found}, expected {self.sha256.lower()}: it is damaged, or "
                               "another file")

    def _unpack(self, archive: Path, checkpoint: Path) -> None:
        """Copies the member's bytes; no name from the archive becomes a path. Reads on to the end for gzip's CRC."""
        others = []
        try:
            with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
                for member in members:
                    others.append(member.name)
                    if member.name.removeprefix("./") != self.member or not member.isfile():
                        continue
                    if member.size > LARGEST:
                        raise WeightsError(f"{archive}: {member.name} claims {member.size:,} bytes, more than a "
                                           "checkpoint has; the archive is not unpacked")
                    source = members.extractfile(member)
                    assert source is not None  # it is a file
                    with checkpoint.open("wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
                while stream.read(1 << 20):
                    pass
        except (gzip.BadGzipFile, EOFError, tarfile.TarError, zlib.error) as error:
            raise WeightsError(f"{archive} is not a whole .tar.gz ({error}): fetch it again") from error
        if not checkpoint.exists():
            raise WeightsError(f"{archive} holds no {self.member}; it holds {', '.join(others[:5]) or 'nothing'}")
