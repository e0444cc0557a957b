"""The folders of a model's versions on disk, looked at again and again: which are complete, and which can be loaded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from serving.models.model_folder import fingerprint, read_model_folder


@dataclass
class _Seen:
    """One version's folder as it was at the last look."""

    content: object
    settled: bool
    """Whether it was the same at the last two looks, so not in the middle of being copied."""
    failed: bool = False
    """Whether it could not be loaded as it is."""


class VersionFolders:
    """What lies in a model's folder. A look takes the whole folder in, or raises and leaves what was known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: dict[int, _Seen] = {}
        self._away = False

    async def look(self, settled: bool) -> None:
        """Reads the folder; ServeError or OSError if it cannot be read.

        `settled`: what was never seen before is taken as complete.
        """
        away, self._away = self._away, True
        on_disk = await asyncio.to_thread(read_model_folder, self.path)
        seen = {}
        for number in on_disk.versions:
            content = await asyncio.to_thread(fingerprint, on_disk.version(number))
            before = self._seen.get(number)
            same = before is not None and before.content == content
            failed = before is not None and before.failed and same and not away  # or it was the disk that failed
            seen[number] = _Seen(content, settled or same, failed)
        self._seen, self._away = seen, False

    @property
    def loadable(self) -> list[int]:
        """Versions that are there and have not failed as they are, ascending."""
        return [number for number, seen in sorted(self._seen.items()) if not seen.failed]

    def settled(self, number: int) -> bool:
        """Whether a version is complete, as far as one can tell."""
        return number in self._seen and self._seen[number].settled

    def failed(self, number: int) -> bool:
        """Whether a version is there and could not be loaded as it is."""
        return number in self._seen and self._seen[number].failed

    def fail(self, number: int) -> None:
        """A version could not be loaded; it is not tried again before something in its folder changes."""
        if number in self._seen:
            self._seen[number].failed = True
