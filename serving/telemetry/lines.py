"""Writing lines to a file descriptor, as text or JSON, without ever blocking or ending who logs them.

Lines go through a bounded queue to a thread. A line that cannot be written - the disk is full, the reader of the pipe
has gone or is stuck - is lost and counted; once writing works again the log says how many were lost.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import textwrap
import threading
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter as AnyJsonFormatter

CALL_FIELDS = ("request_id", "client", "method", "model")
LINES_WAITING = 4096
"""Lines in memory while they cannot be written as fast as they come."""
STUCK_SECONDS = 5
"""How long a line waits for a non-blocking pipe that is full."""


class LineHandler(logging.Handler):
    """Formats records where they are logged and leaves the lines to a daemon thread that writes them.

    Without a StreamHandler, whose buffer keeps what a full disk refused and fails with it again and again.
    """

    def __init__(self, fd: int, formatter: logging.Formatter, report_lost: bool = False) -> None:
        """Starts the thread, which writes to a copy of `fd`: later changes to that do not matter.

        `report_lost`: write how many lines were lost, once writing works again.
        """
        super().__init__()
        self.setFormatter(formatter)
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_WAITING)
        self._fd, self._report_lost = os.dup(fd), report_lost
        self._dropped = self._failed = self._reported = 0
        self._torn = False
        self._thread = threading.Thread(target=self._write_lines, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        return self._dropped + self._failed

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except Exception:  # the queue is full, or the arguments do not fit the message
            self._dropped += 1

    def stop(self, seconds: float = 2) -> None:
        """Writes what waits, for at most `seconds`; then the thread ends with the process."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)
        if not self._thread.is_alive():
            os.close(self._fd)

    def _write_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            if self._write(line) and self._report_lost and (lost := self.lost) > self._reported:
                report = logging.LogRecord(__name__, logging.WARNING, __file__, 0,
                                           "%d lines of the log could not be written", (lost - self._reported,), None)
                if self._write(self.format(report)):
                    self._reported = lost

    def _write(self, line: str) -> bool:
        data = (b"\n" if self._torn else b"") + f"{line}\n".encode(errors="backslashreplace")
        written = 0
        try:
            while written < len(data):
                written += self._write_some(data[written:])
        except OSError:
            self._failed += 1
            return False
        finally:
            if written:
                self._torn = data[written - 1:written] != b"\n"
        return True

    def _write_some(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # the stream was made non-blocking by the process that started the server
            ready = select.poll()
            ready.register(self._fd, select.POLLOUT)
            if not ready.poll(STUCK_SECONDS * 1000):
                raise
            return 0


class JsonFormatter(AnyJsonFormatter):
    def __init__(self) -> None:
        super().__init__(["asctime", "levelname", "name", "message", *CALL_FIELDS], json_ensure_ascii=False,
                         rename_fields={"asctime": "time", "levelname": "level", "name": "logger",
                                        "exc_info": "exception", "stack_info": "stack"})

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002
        return _time(record)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in log_data.items() if value is not None}


class TextFormatter(logging.Formatter):
    """A message is one line, whatever a caller put into it; a stack trace follows, set in."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name}: {_one_line(record.getMessage())}"
        fields = [f"{name}={_one_line(value)}" for name in CALL_FIELDS if (value := getattr(record, name, None))]
        if fields:
            line += f" [{', '.join(fields)}]"
        for more in (record.exc_info and self.formatException(record.exc_info), record.stack_info):
            if more:
                line += "\n" + textwrap.indent(more, "    ", lambda _: True)
        return line


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
