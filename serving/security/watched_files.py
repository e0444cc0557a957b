"""Files that are read again when they change, without a look at the file system for every call."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from serving.errors import ServeError

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks."""

Content = TypeVar("Content")
Stamp = tuple[int, int, int, int, int] | None


class WatchedFiles(Generic[Content]):
    """What files that belong together hold. May be used from any thread."""

    def __init__(self, paths: Sequence[Path], read: Callable[[], Content], kept: str, look_every: float) -> None:
        """Reads the files; what `read` raises this first time passes through.

        `kept`: for the log, what becomes of the content when `read` fails later, such as "the keys stay in use".
        """
        self._paths, self._read, self._kept, self._look_every = paths, read, kept, look_every
        self._lock = Lock()
        self._problem = ""
        self._next_look = time.monotonic() + look_every
        self._known = self._last = self._stamps()
        self.content = read()

    def refresh(self, now: bool = False) -> bool:
        """Reads the files again if they have changed, or `now`; whether `content` is new. Never raises."""
        with self._lock:
            if now:
                self._known = self._last = self._stamps()
                self._problem = ""
            elif not self._changed():
                return False
            try:
                content = self._read()
            except ServeError as error:
                if str(error) != self._problem:
                    log.error("%s; %s", error, self._kept)
                self._problem = str(error)
                return False
            except Exception:
                log.exception("%s cannot be read; %s", self._paths[0], self._kept)
                return False
            self._problem = ""
            is_new = content != self.content
            if is_new:
                self.content = content
            return is_new

    def _changed(self) -> bool:
        """True once for each change, as soon as the files have not changed for `look_every` seconds.

        So a half-written file, or a certificate whose key is still to come, is not read. A change that is older than
        that is found at the next look.
        """
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + self._look_every
        stamps = self._stamps()
        still = stamps == self._last or _age(stamps) >= self._look_every
        self._last = stamps
        if stamps == self._known or not still:
            return False
        self._known = stamps
        return True

    def _stamps(self) -> tuple[Stamp, ...]:
        return tuple(map(_stamp, self._paths))


def _age(stamps: tuple[Stamp, ...]) -> float:
    """Seconds since the last change; 0 if a file is missing, as it may be about to come back."""
    if None in stamps:
        return 0
    return time.time() - max(stamp[3] for stamp in stamps if stamp) / 1e9


def _stamp(path: Path) -> Stamp:
    """What differs after any change: mtime can be kept by mv and cp -p, ctime cannot. None: no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
