"""The log on stderr and the few lines on stdout. Writing them never blocks the server nor ends it.

A line that cannot be written - the disk is full, the reader of the pipe has gone or is stuck - is lost and counted;
once writing works again the log says how many were.
"""

from __future__ import annotations

import logging
import textwrap
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import grpc
from pythonjsonlogger.json import JsonFormatter

from serving.call import Call, Stage, current_call
from serving.config.config import ObservabilityConfig
from serving.telemetry.line_writer import STDERR, STDOUT, LineWriter, hold_standard_streams

CALL_FIELDS = ("request_id", "client", "method", "model")
BROKEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)
"""What a call ends with when the server itself failed."""

access_log = logging.getLogger("serving.access")


class Logs:
    """The log of the whole process, and its stdout."""

    def __init__(self, config: ObservabilityConfig, out: int = STDOUT, err: int = STDERR) -> None:
        """Sends the messages of all loggers and all warnings to the file descriptor `err`."""
        self._share = config.access_log
        formatter = _JsonFormatter() if config.log_format == "json" else _TextFormatter()
        self._out = LineWriter(out)
        self._err = LineWriter(err, on_lost=lambda lines: formatter.format(_lost(lines)))
        hold_standard_streams()
        self._handler = _Handler(self._err)
        self._handler.addFilter(_add_call)
        self._handler.setFormatter(formatter)
        root = logging.getLogger()
        self._before = (root.level, logging.raiseExceptions)
        root.addHandler(self._handler)
        root.setLevel(config.log_level.upper())
        logging.raiseExceptions = False
        logging.captureWarnings(True)

    @property
    def lost(self) -> int:
        """Lines that could not be written, of both streams."""
        return self._out.lost + self._err.lost

    def say(self, line: str) -> None:
        """Writes a line to stdout, if it can be written."""
        self._out.write(line)

    def access(self, call: Call, status: grpc.StatusCode, seconds: float, stages: Mapping[Stage, float]) -> None:
        """Logs how a call ended, if it is in the share to be logged or the server failed.

        `stages` are the seconds that its pictures spent in each. Which calls are logged depends on their ids alone, so
        a call that comes through several servers is in the logs of all or of none.
        """
        broken = status in BROKEN
        if not broken and not _in_share(call.id, self._share):
            return
        times = "".join(f", {name} {spent * 1000:.1f}" for name, spent in stages.items())
        fields = {"status": status.name, "seconds": round(seconds, 6),
                  **{f"{name}_seconds": round(spent, 6) for name, spent in stages.items()}}
        access_log.log(logging.ERROR if broken else logging.INFO, "%s after %.1f ms%s", status.name, seconds * 1000,
                       times, extra={"call": call, **fields})

    def close(self, seconds: float = 2) -> None:
        """Writes what waits, each stream for at most so long, and logs no more."""
        logging.captureWarnings(False)
        root = logging.getLogger()
        root.removeHandler(self._handler)
        level, logging.raiseExceptions = self._before
        root.setLevel(level)
        self._err.close(seconds)
        self._out.close(seconds)


class _Handler(logging.Handler):
    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(self.format(record))
        except Exception:  # such as arguments that do not fit the message: no reason to fail whoever logs
            self._writer.lose()


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
    """Tells a message whose call it is about: the one it was given, or the one that the running task answers."""
    call: Call | None = record.__dict__.pop("call", None)
    if call is None:
        try:
            call = current_call()
        except LookupError:
            return True
    record.request_id, record.client, record.method, record.model = call.id, call.client, call.method, call.model
    return True


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _lost(lines: int) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, "%d lines of the log could not be written",
                             (lines,), None)


def _in_share(request_id: str, share: float) -> bool:
    return zlib.crc32(request_id.encode(errors="backslashreplace")) < share * 2**32
