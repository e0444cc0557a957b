"""Files that are read again when they change, without a look at the file system for every call."""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Lock

LOOK_EVERY = 1.0
"""Seconds between two looks."""

Stamp = tuple[int, int, int, int, int] | None


class WatchedFiles:
    """Files that belong together. May be used from any thread."""

    def __init__(self, *paths: Path, look_every: float = LOOK_EVERY) -> None:
        self._paths = paths
        self._look_every = look_every
        self._lock = Lock()
        self._next_look = time.monotonic() + look_every
        self._known = self._last = self._stamps()

    def changed(self) -> bool:
        """True once for each change, as soon as the files have not changed for `look_every` seconds.

        So a half-written file, or a certificate whose key is still to come, is not read. A change that is older than
        that is found at the next look.
        """
        with self._lock:
            if time.monotonic() < self._next_look:
                return False
            self._next_look = time.monotonic() + self._look_every
            stamps = self._stamps()
            still = stamps == self._last or self._age(stamps) >= self._look_every
            self._last = stamps
            if stamps == self._known or not still:
                return False
            self._known = stamps
            return True

    def _stamps(self) -> tuple[Stamp, ...]:
        return tuple(map(_stamp, self._paths))

    @staticmethod
    def _age(stamps: tuple[Stamp, ...]) -> float:
        """Seconds since the last change; 0 if a file is missing, as it may be about to come back."""
        if None in stamps:
            return 0
        return time.time() - max(stamp[3] for stamp in stamps if stamp) / 1e9


def _stamp(path: Path) -> Stamp:
    """What differs after any change: mtime can be kept by mv and cp -p, ctime cannot. None: no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
