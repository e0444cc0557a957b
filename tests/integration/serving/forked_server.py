"""voc-serve in processes that are forked from one that has imported TensorFlow: they start in a moment.

What runs is voc-serve's own main() and the engine's own worker, in processes of their own with their own ports, signals
and exit codes; only the seconds of importing are saved. The session's `server` is started as users start it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import forkserver, reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.integration.serving.preloaded"])
FORKS_OF: Any = forkserver._forkserver  # type: ignore[attr-defined]
"""The process that forks them; multiprocessing has no public name for it."""


class ForkedProcess:
    """What the server and its tests use of subprocess.Popen."""

    def __init__(self, target: Callable[..., None], *args: Any) -> None:
        self._process = FORKS.Process(target=target, args=args)
        self._process.start()
        self._lock = threading.Lock()  # multiprocessing reads an exit code once
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        with self._lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        multiprocessing.connection.wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("voc-serve", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start_server(arguments: Sequence[str], output: Path, errors: Path,
                 pipes: tuple[int, int] | None = None) -> ForkedProcess:
    """`voc-serve` with these arguments, writing to these files, or to pipes that are open here."""
    FORKS_OF.ensure_running()
    streams = tuple(map(_Descriptor, pipes)) if pipes else (str(output), str(errors))
    return ForkedProcess(_run_server, list(arguments), str(output), streams, dict(os.environ),
                         FORKS_OF._forkserver_address)


def _run_server(arguments: list[str], output: str, streams: tuple[str | _Descriptor, ...],
                environment: dict[str, str], address: str) -> None:
    for descriptor, stream in enumerate(streams, 1):
        opened = os.open(stream, os.O_WRONLY) if isinstance(stream, str) else stream.number
        os.dup2(opened, descriptor)
        os.close(opened)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    # the worker is forked from the same process: multiprocessing would start another one for the processes of a process
    FORKS_OF._forkserver_address, FORKS_OF.ensure_running = address, lambda: None
    ForkedWorkers.started = engines_file(output)
    sys.argv = ["voc-serve", *arguments]
    from serving.cli import main
    from serving.engine import process

    process.subprocess = ForkedWorkers  # type: ignore[assignment]
    main()


def engines_file(output: str | Path) -> Path:
    """Where a forked server notes the process ids of its engines, which are no children of it."""
    return Path(output).with_suffix(".engines")


class ForkedWorkers:
    """What serving.engine.process uses of the module subprocess."""

    started: Path | None = None
    DEVNULL = subprocess.DEVNULL
    TimeoutExpired = subprocess.TimeoutExpired

    @staticmethod
    def Popen(program: list[str], pass_fds: tuple[int, int], **_: Any) -> ForkedProcess:
        """Instead of `python -m serving.engine.worker CONNECTION MEMORY`."""
        assert program[1:3] == ["-m", "serving.engine.worker"]
        worker = ForkedProcess(_run_worker, *map(_Descriptor, pass_fds))
        if ForkedWorkers.started is not None:
            with ForkedWorkers.started.open("a") as file:
                file.write(f"{worker.pid}\n")
        return worker


class _Descriptor:
    """A file descriptor for another process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self.number),)  # type: ignore[attr-defined]


def _received(duplicate: Any) -> _Descriptor:
    return _Descriptor(duplicate.detach())


def _run_worker(connection: _Descriptor, memory: _Descriptor) -> None:
    from serving.engine.worker import main

    main(Connection(connection.number), memory.number)
    os._exit(0)
