"""One checkpoint out of a `.tar.gz` that comes over HTTP, as TF-Slim publishes its models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from voc_cls.downloads import fetched, unpack

if TYPE_CHECKING:
    from rich.console import Console

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

    def write(self, checkpoint: Path, local: Path | None = None, console: Console | None = None) -> None:
        """Puts the member at `checkpoint`; the download lies beside that file's folder until it is unpacked.

        Args:
            checkpoint: In a folder of its own.
            local: The archive, where it need not be downloaded; it is left as it is.
            console: For a progress bar, if it is a terminal.

        Raises:
            DownloadError: The archive does not come, is damaged or another one.
        """
        name = PurePosixPath(urlsplit(self.url).path).name
        aside = checkpoint.parent.parent / f".{name}"  # hidden: a visible one is somebody's, not ours
        with fetched(self.url, aside, local, self.sha256, console, magic=GZIP_MAGIC) as archive:
            unpack(archive, checkpoint.parent, LARGEST, only=self.member)
            (checkpoint.parent / self.member).replace(checkpoint)
