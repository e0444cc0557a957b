"""The log on stderr and the few lines on stdout. Writing them never blocks the server nor ends it.

Lines go through a bounded queue to a daemon thread (logging.handlers). A line that cannot be written - the disk is
full, the reader of the pipe has gone or is stuck - is lost and counted; once writing works again the log says how many
were lost.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import textwrap
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any

import grpc
from pythonjsonlogger.json import JsonFormatter

from serving.config.config import ObservabilityConfig
from serving.request_context import RequestContext, Stage, current_request

CALL_FIELDS = ("request_id", "client", "method", "model")
BROKEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)
"""What a call ends with when the server itself failed."""
STDOUT, STDERR = 1, 2
LINES_WAITING = 4096
"""Lines in memory while they cannot be written as fast as they come."""
STUCK_SECONDS = 5
"""How long a line waits for a non-blocking pipe that is full."""

access_log = logging.getLogger("serving.access")


class Logs:
    """The log of the whole process, and its stdout."""

    def __init__(self, config: ObservabilityConfig, out: int = STDOUT, err: int = STDERR) -> None:
        """Sends the messages of all loggers and all warnings to the file descriptor `err`."""
        self._share = config.access_log
        formatter = _JsonFormatter() if config.log_format == "json" else _TextFormatter()
        self._out = LineHandler(out, logging.Formatter("%(message)s"))
        self._err = LineHandler(err, formatter, report_lost=True)
        self._err.addFilter(_add_call)
        root = logging.getLogger()
        self._level_before = root.level
        root.addHandler(self._err)
        root.setLevel(config.log_level.upper())
        logging.captureWarnings(True)

    @property
    def lost(self) -> int:
        """Lines that could not be written, of both streams."""
        return self._out.lost + self._err.lost

    def say(self, line: str) -> None:
        """Writes a line to stdout, if it can be written."""
        self._out.handle(logging.makeLogRecord({"msg": line}))

    def access(self, call: RequestContext, status: grpc.StatusCode, seconds: float,
               stages: Mapping[Stage, float], is_poll: bool = False) -> None:
        """Logs how a call ended, if it is in the share to be logged or the server failed.

        `stages` are the seconds that its pictures spent in each. Which calls are logged depends on their ids alone, so
        a call that comes through several servers is in the logs of all or of none. `is_poll`: logged at level debug.
        """
        broken = status in BROKEN
        if not broken and zlib.crc32(call.id.encode(errors="backslashreplace")) >= self._share * 2**32:
            return
        times = "".join(f", {name} {spent * 1000:.1f}" for name, spent in stages.items())
        fields = {"status": status.name, "seconds": round(seconds, 6),
                  **{f"{name}_seconds": round(spent, 6) for name, spent in stages.items()}}
        level = logging.ERROR if broken else logging.DEBUG if is_poll else logging.INFO
        access_log.log(level, "%s after %.1f ms%s", status.name, seconds * 1000, times,
                       extra={"call": call, **fields})

    def close(self, seconds: float = 2) -> None:
        """Writes what waits, each stream for at most `seconds`, and logs no more."""
        logging.captureWarnings(False)
        root = logging.getLogger()
        root.removeHandler(self._err)
        root.setLevel(self._level_before)
        for handler in (self._err, self._out):
            handler.listener.stop(seconds)


class LineHandler(QueueHandler):
    """Formats records where they are logged and leaves the lines to a thread that writes them to a file descriptor."""

    def __init__(self, fd: int, formatter: logging.Formatter, report_lost: bool = False,
                 waiting: int = LINES_WAITING) -> None:
        """Starts the thread, which writes to a copy of `fd`: later changes to that do not matter.

        `report_lost`: write how many lines were lost, once writing works again; `waiting`: the most lines in memory.
        """
        self.lines: queue.Queue[logging.LogRecord | None] = queue.Queue(waiting)
        super().__init__(self.lines)
        self.setFormatter(formatter)
        self.dropped = 0
        self.listener: LineListener = LineListener(self, os.dup(fd), report_lost)
        self.listener.start()

    @property
    def lost(self) -> int:
        return self.dropped + self.listener.failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        """Counts a line that the full queue does not take, or whose arguments do not fit its message."""
        self.dropped += 1


class LineListener(QueueListener):
    """Writes the lines of a LineHandler in a daemon thread.

    Without a StreamHandler, whose buffer keeps what a full disk refused and fails with it again and again.
    """

    def __init__(self, handler: LineHandler, fd: int, report_lost: bool) -> None:
        super().__init__(handler.lines)
        self.failed = 0
        self._handler, self._fd, self._report_lost = handler, fd, report_lost
        self._reported = 0
        self._torn = False

    def handle(self, record: logging.LogRecord) -> None:
        """Writes the line of a record that LineHandler has formatted."""
        if self._write(record.getMessage()) and self._report_lost and (lost := self._handler.lost) > self._reported:
            report = logging.LogRecord(__name__, logging.WARNING, __file__, 0,
                                       "%d lines of the log could not be written", (lost - self._reported,), None)
            if self._write(self._handler.format(report)):
                self._reported = lost

    def stop(self, seconds: float = 2) -> None:
        """Writes what waits, for at most `seconds`: the base class waits for a stuck reader for ever."""
        try:
            self._handler.lines.put(None, timeout=seconds)  # None ends the thread, as in enqueue_sentinel
        except queue.Full:
            return  # the thread is a daemon and ends with the process
        if self._thread is not None:  # of the base class, which has no other way to wait for it
            self._thread.join(seconds)
            if not self._thread.is_alive():
                os.close(self._fd)

    def _write(self, line: str) -> bool:
        data = (b"\n" if self._torn else b"") + f"{line}\n".encode(errors="backslashreplace")
        written = 0
        try:
            while written < len(data):
                written += self._write_some(data[written:])
        except OSError:
            self.failed += 1
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


class _JsonFormatter(JsonFormatter):
    def __init__(self) -> None:
        super().__init__(["asctime", "levelname", "name", "message", *CALL_FIELDS], json_ensure_ascii=False,
                         rename_fields={"asctime": "time", "levelname": "level", "name": "logger",
                                        "exc_info": "exception", "stack_info": "stack"})

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002
        return _time(record)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in log_data.items() if value is not None}


class _TextFormatter(logging.Formatter):
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


def _add_call(record: logging.LogRecord) -> bool:
    """Adds the call to a message: the one given with it, or the one that the running task answers."""
    call: RequestContext | None = record.__dict__.pop("call", None) or current_request.get(None)
    if call is not None:
        record.request_id, record.client, record.method, record.model = call.id, call.client, call.method, call.model
    return True


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
