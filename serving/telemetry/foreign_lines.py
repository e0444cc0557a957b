"""With JSON logs: what C libraries, the interpreter and engines print becomes JSON too, by a process that reads it.

A process, not a thread, as the last words of a crash are worth most. Its end is near when its stdin is closed, by the
server or by the server's death.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.telemetry.lines import LineHandler

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""They go to the whole process group; the server decides when to stop."""
END_SECONDS = 2.0
"""How long the process may take to end."""
LONGEST_LINE = 2**16
"""Bytes."""
GOOGLE_LEVEL = re.compile(r"(?:\d{4}-\d\d-\d\d \S+: ([IWEF]) |([IWEF])\d{4} \d\d:)")
"""How lines of TensorFlow and of absl, which gRPC logs by, begin."""
LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
ERROR = re.compile(r"\berror\b|\bfatal\b|^Traceback", re.IGNORECASE)
FRAME = " ╭╮╰╯│─\t\r\n"
"""What command lines draw around errors in flags."""


class ForeignLines:
    """The server's end."""

    def __init__(self) -> None:
        self.streams = (1, 2)
        """The file descriptors of the real stdout and stderr."""
        self._out_pipe = -1
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """From now on what is printed on stderr becomes JSON; once is enough."""
        if self._process is not None:
            return
        self.streams = (os.dup(1), os.dup(2))
        (out, out_pipe), (err, err_pipe) = os.pipe(), os.pipe()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # which the process inherits
        self._process = subprocess.Popen([sys.executable, "-m", __name__, str(out), str(err)], stdin=subprocess.PIPE,
                                         stdout=self.streams[0], stderr=self.streams[1], pass_fds=(out, err))
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.dup2(err_pipe, 2)
        for descriptor in (out, err, err_pipe):
            os.close(descriptor)
        self._out_pipe = out_pipe

    def take_stdout(self) -> None:
        """What is printed on stdout becomes JSON too, if what is printed on stderr does."""
        if self._process is not None:
            os.dup2(self._out_pipe, 1)

    def close(self) -> None:
        """Waits until what was printed is written, though not for ever."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # a full disk
                stream.flush()
        if self._process is None or self._process.stdin is None:
            return
        for number, descriptor in enumerate(self.streams, 1):
            os.dup2(descriptor, number)
        os.close(self._out_pipe)
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)


def main(pipes: Sequence[int]) -> None:
    """Writes the lines that come through two pipes to stdout and stderr."""
    from serving.telemetry.lines import JsonFormatter, LineHandler  # needs the extra `serve`

    handlers = [LineHandler(stream, JsonFormatter(), report_lost=stream == 2) for stream in (1, 2)]
    threads = [threading.Thread(target=_pass_on, args=arguments, daemon=True)
               for arguments in zip(pipes, ("stdout", "stderr"), handlers, strict=True)]
    for thread in threads:
        thread.start()
    os.read(0, 1)
    for thread, handler in zip(threads, handlers, strict=True):
        thread.join(END_SECONDS / 4)  # longer only where a process lives on that has the pipe too
        handler.stop(END_SECONDS / 4)


def _pass_on(pipe: int, name: str, handler: LineHandler) -> None:
    with os.fdopen(pipe, "rb") as stream:
        while line := stream.readline(LONGEST_LINE):
            if text := line.decode(errors="backslashreplace").strip(FRAME):
                handler.handle(logging.LogRecord(name, _level(text), "", 0, text, None, None))


def _level(line: str) -> int:
    if match := GOOGLE_LEVEL.match(line):
        return LEVELS[match[1] or match[2]]
    return logging.ERROR if ERROR.search(line) else logging.WARNING


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
    os._exit(0)  # not waiting for a thread that waits for a stuck reader
