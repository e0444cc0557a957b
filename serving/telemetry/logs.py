"""The log on stderr and the few lines on stdout. Writing them never blocks the server nor ends it (lines)."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping

import grpc

from serving.config.config import ObservabilityConfig
from serving.request_context import RequestContext, current_request
from serving.telemetry.lines import JsonFormatter, LineHandler, TextFormatter

BROKEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)
"""What a call ends with when the server itself failed."""

access_log = logging.getLogger("serving.access")


class Logs:
    """The log of the whole process, and its stdout."""

    def __init__(self, config: ObservabilityConfig, out: int = 1, err: int = 2) -> None:
        """Sends the messages of all loggers and all warnings to the file descriptor `err`; `out` is that of stdout."""
        self._share = config.access_log
        as_json = config.log_format == "json"
        self._out = LineHandler(out, JsonFormatter() if as_json else logging.Formatter("%(message)s"))
        self._err = LineHandler(err, JsonFormatter() if as_json else TextFormatter(), report_lost=True)
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
        self._out.handle(logging.LogRecord("serving.server", logging.INFO, __file__, 0, line, None, None))

    def is_logged(self, call: RequestContext, status: grpc.StatusCode) -> bool:
        """Whether `access` logs how a call ended."""
        return status in BROKEN or zlib.crc32(call.id.encode(errors="backslashreplace")) < self._share * 2**32

    def access(self, call: RequestContext, status: grpc.StatusCode, seconds: float,
               stages: Mapping[str, float], pictures: int = 0, is_poll: bool = False) -> None:
        """Logs how a call ended, if it is in the share to be logged or the server failed.

        `stages` are parts of `seconds`. Which calls are logged depends on their ids alone, so a call that comes through
        several servers is in the logs of all or of none. `is_poll`: logged at level debug.
        """
        if not self.is_logged(call, status):
            return
        times = "".join(f", {name} {spent * 1000:.1f}" for name, spent in stages.items())
        fields = {"status": status.name, "seconds": round(seconds, 6), **({"pictures": pictures} if pictures else {}),
                  **{f"{name}_seconds": round(spent, 6) for name, spent in stages.items()}}
        level = logging.ERROR if status in BROKEN else logging.DEBUG if is_poll else logging.INFO
        access_log.log(level, "%s after %.1f ms%s", status.name, seconds * 1000, times,
                       extra={"call": call, **fields})

    def close(self, seconds: float = 2) -> None:
        """Writes what waits, each stream for at most `seconds`, and logs no more."""
        logging.captureWarnings(False)
        root = logging.getLogger()
        root.removeHandler(self._err)
        root.setLevel(self._level_before)
        for handler in (self._err, self._out):
            handler.stop(seconds)


def _add_call(record: logging.LogRecord) -> bool:
    """Adds the call to a message: the one given with it, or the one that the running task answers."""
    call: RequestContext | None = record.__dict__.pop("call", None) or current_request.get(None)
    if call is not None and not call.ended:
        record.request_id, record.client, record.method, record.model = call.id, call.client, call.method, call.model
    return True
