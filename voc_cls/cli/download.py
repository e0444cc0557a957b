"""voc-data download: official data sets, from their servers onto the disk."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from voc_cls.errors import DataError, UsageError

if TYPE_CHECKING:
    from voc_cls.data.official import OfficialArchive


@dataclass(frozen=True)
class Download:
    """Download an official data set, verify its digest and unpack it.

    Interrupted downloads are resumed; complete ones are not repeated.

    Examples:
      voc-data download voc2007    0.9 GB, VOCdevkit/VOC2007
      voc-data download voc2012    2.0 GB, VOCdevkit/VOC2012
      voc-data download cifar10    0.2 GB, cifar-10-batches-py
      voc-data download voc2007 --archive VOC*_06-Nov-2007.tar
    """

    name: tyro.conf.Positional[Literal["voc2007", "voc2012", "cifar10"]]
    """The data set."""
    out: Path = Path(".")
    """Folder to unpack into; needs about twice the size of the archives while unpacking."""
    parts: tuple[str, ...] = ()
    """voc2007 only: trainval, test or both. Default: both."""
    url: str | None = None
    """URL of a mirror: of the folder with the archives, or of one archive. Default: the official servers."""
    archive: tuple[Path, ...] = ()
    """Archives that you downloaded yourself, under their official names: unpacked, and not deleted."""
    sha256: str | None = None
    """Expected SHA-256 of the archive, if a mirror has repacked it. Default: the official digest."""

    def run(self) -> None:
        """Fetches part by part, then prints how to train on it."""
        from rich.console import Console

        from voc_cls.data.official import OFFICIAL, chosen_parts, fetch_archive, mirrored

        official = OFFICIAL[self.name]
        archives = chosen_parts(official, self.parts)
        brought = self._brought(archives)
        if brought and not self.parts:
            archives = tuple(archive for archive in archives if archive.name in brought)
        if self.url is not None:
            archives = mirrored(archives, self.url)
        if self.sha256 is not None:
            archives = (self._repacked(archives),)
        for archive in archives:
            fetch_archive(archive, self.out, brought.get(archive.name), print, Console(stderr=True))
        print(f"train on it: voc-train --data {official.data} --root {shlex.quote(str(self.out / official.root))} "
              f"{official.train} …")

    def _brought(self, archives: tuple[OfficialArchive, ...]) -> dict[str, Path]:
        """Name of an archive → the file; a single one may have any name."""
        brought = {}
        for file in self.archive:
            names = [archive.name for archive in archives]
            name = file.name if file.name in names else names[0]
            if name != file.name and len(names) > 1:
                raise UsageError(f"--archive {file}: has the name of none of the parts, {' and '.join(names)}; rename "
                                 f"it, or say which one it is with --parts")
            if not file.is_file():
                raise DataError(f"{file}: no such file; --archive takes {name}")
            brought[name] = file
        return brought

    def _repacked(self, archives: tuple[OfficialArchive, ...]) -> OfficialArchive:
        if not re.fullmatch("[0-9a-fA-F]{64}", self.sha256 or ""):
            raise UsageError(f"--sha256 {self.sha256}: a SHA-256 has 64 hexadecimal digits")
        if len(archives) > 1:
            raise UsageError(f"--sha256 {self.sha256}: is of one archive, but {len(archives)} are wanted; name the "
                             f"part with --parts")
        return replace(archives[0], sha256=self.sha256 or "", size=None)
