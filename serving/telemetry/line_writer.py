"""Lines to a file or pipe that may be full, stuck or gone: writing them never blocks the caller and never fails.

Not logging.handlers.QueueListener: its stop() waits for ever for a reader that is stuck, its handler keeps what a full
disk refused in a buffer that fails again at the end of the process, and lines of stdout need the same care.
"""

from __future__ import annotations

import errno
import os
import queue
import select
import sys
import threading
from collections.abc import Callable

STDIN, STDOUT, STDERR = 0, 1, 2
LINES_WAITING = 4096
"""Lines in memory while they cannot be written as fast as they come."""
STUCK_SECONDS = 5
"""How long a line waits for a pipe that is full and does not block."""


class LineWriter:
    """Writes lines to a file descriptor in a thread of its own."""

    def __init__(self, fd: int, on_lost: Callable[[int], str] | None = None, waiting: int = LINES_WAITING) -> None:
        """`on_lost` gives the line that says how many were lost; it is written once writing works again."""
        self._fd = _copy(fd)
        self._on_lost = on_lost
        self._lines: queue.Queue[str | None] = queue.Queue(waiting)
        self._lock = threading.Lock()
        self._lost = self._told = 0
        self._torn = False
        self._thread = threading.Thread(target=self._run, name=f"lines-{fd}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._lost

    def write(self, line: str) -> None:
        """Hands a line, without its end, to the thread. Returns at once."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.lose()

    def lose(self) -> None:
        """Counts a line that will not be written."""
        with self._lock:
            self._lost += 1

    def close(self, seconds: float = 2) -> None:
        """Writes what waits, for at most so long."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return  # stuck: its thread is a daemon and ends with the process
        self._thread.join(seconds)

    def _run(self) -> None:
        for line in iter(self._lines.get, None):
            if self._write(line) and self._lost > self._told and self._on_lost is not None:
                lost = self._lost
                if self._write(self._on_lost(lost - self._told)):
                    self._told = lost
        if self._fd is not None:
            os.close(self._fd)

    def _write(self, line: str) -> bool:
        data = (b"\n" if self._torn else b"") + f"{line}\n".encode(errors="backslashreplace")
        written = 0
        try:
            while written < len(data):
                written += _write_some(self._fd, data[written:])
        except OSError:
            self.lose()
            return False
        finally:
            if written:
                self._torn = data[written - 1:written] != b"\n"
        return True


def _copy(fd: int) -> int | None:
    """The stream as it is now, whatever is put in its place later; None if it is closed."""
    try:
        return os.dup(fd)
    except OSError:
        return None


def _write_some(fd: int | None, data: bytes) -> int:
    if fd is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    try:
        return os.write(fd, data)
    except BlockingIOError:  # whoever started the server made the stream so
        ready = select.poll()
        ready.register(fd, select.POLLOUT)
        if not ready.poll(STUCK_SECONDS * 1000):
            raise
        return 0


def hold_standard_streams() -> None:
    """Puts /dev/null where a standard stream is closed: else a socket gets its number, and what is printed with it.

    To be called before anything is opened.
    """
    for fd in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, so most often the very one
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # as Python has it where the stream was closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
