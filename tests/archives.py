"""Archives that tests write."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path


def packed(file: Path, *members: tuple[str, bytes] | tarfile.TarInfo, mode: str = "w") -> Path:
    """An archive of (name, content) or ready TarInfos."""
    with tarfile.open(file, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return file
